"""`python -m benchmarks` as users run it: real processes that are killed, interrupted and shared."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.cli import main
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runs.profiles import PARTS, PROFILES, Part, Profile, narrowed

ROOT = Path(__file__).resolve().parents[2]
MODEL = "tests.benchmarks.measures.test_training:small_network"
QUICK = ["--model", MODEL, "--arrangements", "bu", "--train-limit", "200", "--test-limit", "50"]
LONG = ["--model", MODEL, "--arrangements", "bu", "--epochs", "12", "--batch", "32"]


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def _start(
    *args: str, results: Path, stderr: int = subprocess.PIPE, session: bool = False
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks", *args, "--results", str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True,
        start_new_session=session,
    )  # fmt: skip


def _rows(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]


def _epochs_saved(results: Path) -> int:
    found = list((results / "runs").glob("*/checkpoint.pt")) if results.exists() else []
    if not found:
        return 0
    epoch: int = torch.load(found[0], weights_only=True)["position"][0]
    return epoch


def _wait(until: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _weights(results: Path) -> dict[str, torch.Tensor]:
    (path,) = (results / "runs").glob("*/model.pt")
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


# Interruptions


@pytest.mark.exhaustive
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    process = _start("exp1", *LONG, results=killed)
    _wait(lambda: _epochs_saved(killed) >= 3, process)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "results.jsonl").exists()
    saved = _epochs_saved(killed)
    assert 3 <= saved < 12, "at most the epoch that was being computed is lost"
    for folder in (killed, straight):
        main(["exp1", *LONG, "--results", str(folder)])
    (first,), (second,) = _rows(killed), _rows(straight)
    for name in ("job", "test_accuracy", "validation_accuracy", "train_loss"):
        assert first[name] == second[name], name
    weights = _weights(straight)
    assert all(torch.equal(value, weights[name]) for name, value in _weights(killed).items())
    assert not list(killed.rglob("checkpoint.pt"))
    assert not list(killed.rglob("*.part"))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_an_interrupt_leaves_a_clean_state_and_a_terminal_sees_progress(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    terminal, stderr = pty.openpty()
    lines_and_columns = struct.pack("HHHH", 24, 120, 0, 0)
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, lines_and_columns)
    process = _start("exp1", *LONG, results=tmp_path, stderr=stderr)
    os.close(stderr)
    os.set_blocking(terminal, False)
    shown = bytearray()

    def read() -> None:
        try:
            shown.extend(os.read(terminal, 65536))
        except OSError:
            return

    def begun() -> bool:
        read()
        return _epochs_saved(tmp_path) >= 1

    _wait(begun, process)
    process.send_signal(number)
    assert process.wait(60) == code
    read()
    os.close(terminal)
    text = shown.decode()
    assert "Traceback" not in text
    last = re.split(r"[\r\n]+", text.strip())[-1]
    assert f"benchmarks: {number.name}: stopped; the same command goes on from here" in last
    # a bar with rate and remaining time
    assert re.search(r"\d+/\d+ \[\d\d:\d\d<\d\d:\d\d, +[\d.]+batch/s", text)
    (saved,) = tmp_path.glob("runs/*/checkpoint.pt")
    assert "network" in torch.load(saved, weights_only=True)
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_reaches_all_worker_processes(tmp_path: Path) -> None:
    arguments = ["exp1", *LONG, "--executor", "processes", "--workers", "1"]
    process = _start(*arguments, results=tmp_path, session=True)
    _wait(lambda: _epochs_saved(tmp_path) >= 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "benchmarks: SIGINT: stopped; the same command goes on from here\n"
    # multiprocessing's own resource tracker ends a moment after the others
    deadline = time.monotonic() + 30
    while _group_lives(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert _epochs_saved(tmp_path) >= 1


def test_a_time_budget_stops_and_a_later_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["exp1", *LONG, "--results", str(tmp_path)]
    begin = time.monotonic()
    main([*arguments, "--epochs", "1000", "--time-budget", "0.02"])
    assert time.monotonic() - begin < 1.2 + 2
    said = capsys.readouterr().err
    assert "the time budget is spent; the same command goes on from here" in said
    assert "0 of 1 jobs done, 1 started" in said
    saved = _epochs_saved(tmp_path)
    main([*arguments, "--epochs", "1000", "--time-budget", "0.02"])
    assert _epochs_saved(tmp_path) > saved
    main([*arguments, "--epochs", "1000", "--dry-run"])
    assert re.search(r"[0-9a-f]{12}  started  train tests", capsys.readouterr().out)


# Several processes


@pytest.mark.exhaustive
def test_two_processes_share_the_work_and_are_silent(tmp_path: Path) -> None:
    arguments = ["exp1", *QUICK, "--runs", "6", "--epochs", "4"]
    processes = [_start(*arguments, results=tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    rows = _rows(tmp_path)
    assert len(rows) == len({row["job"] for row in rows}) == 6
    assert [row["run"] for row in sorted(rows, key=lambda row: row["run"])] == list(range(6))
    for table, errors in outputs:
        assert errors == ""
        assert re.search(r"digits +BU +\d+(\.\d+)? +\d+(\.\d+)? +6", table)
    assert outputs[0][0] == outputs[1][0]


@pytest.mark.exhaustive
def test_the_processes_executor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["exp1", *QUICK, "--runs", "3", "--epochs", "1", "--results", str(tmp_path)]
    main([*arguments, "--executor", "processes", "--workers", "2"])
    assert sorted(row["run"] for row in _rows(tmp_path)) == [0, 1, 2]
    assert re.search(r"digits +BU .* 3  ", capsys.readouterr().out)


# Output


def test_table1_is_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["table1", "--results", str(tmp_path)])
    out = capsys.readouterr().out.splitlines()
    assert re.split("  +", out[1])[:5] == ["network", "BU", "BU, paper", "TD", "TD, paper"]
    assert out[3].split() == [
        "LeNetFC", "7,670", "8k", "14,452", "14k", "23,486", "23k", "57,846", "58k",
    ]  # fmt: skip
    assert out[6].split()[:5] == ["NIN", "969,822", "970k", "3,368,478", "3,368k"]
    assert len(_rows(tmp_path)) == 16


def test_the_help_has_an_option_for_every_value_of_the_profile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hidden = {"name", "settings", "explained", "effort", "strong_effort"}
    with pytest.raises(SystemExit):
        main(["exp1", "--profile", "cpu", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in fields(Profile):
        option = f"--{field.name.replace('_', '-')} "
        assert (option in text) is (field.name not in hidden), option
    assert "passes through the training images. (default: 6)" in text


@pytest.mark.parametrize("profile", ["core", "paper"])
def test_the_help_says_what_holds_where_an_option_is_left_out(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["exp1", "--profile", profile, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "None" not in text
    assert "images per step. (default: the authors')" in text


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--help"]], ids=str)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    """As in `--dry-run | head`: whoever reads has closed its end before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "benchmarks", "exp1", *arguments, "--results", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert found.returncode == 128 + signal.SIGPIPE
    assert found.stderr == b""


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    main(["exp1", "--profile", "cpu", "--dry-run", "--results", str(results)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["job", "state", "what"]
    assert lines[2].endswith("  to do  train lenet-fc bu mnist run 0")
    assert not results.exists()
    main(["exp1", *QUICK, "--epochs", "1", "--results", str(results)])
    capsys.readouterr()
    main(["exp1", *QUICK, "--epochs", "1", "--results", str(results), "--dry-run"])
    assert "  done   train" in capsys.readouterr().out


def test_a_model_and_data_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for number, name in enumerate(("dark", "light")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(10):
                shade = (200 * number + index, 30, 200 * number)
                Image.new("RGB", (32, 32), shade).save(folder / f"{index}.png")
    main(
        [
            "exp1", "--model", "timm:resnet10t", "--data", f"imagefolder:{tmp_path / 'images'}",
            "--arrangements", "bu", "td", "--epochs", "2", "--batch", "9", "--learning-rate", "0.01",
            "--results", str(tmp_path / "results"),
        ]
    )  # fmt: skip
    out = capsys.readouterr().out
    for title in ("BU", "TD"):
        assert re.search(rf"timm:resnet10t +images +{title} +\d+(\.\d+)? +1 ", out)
    rows = _rows(tmp_path / "results")
    assert [row["arrangement"] for row in rows] == ["bu", "td"]
    assert all(row["learning_rate"] == 0.01 for row in rows)
    assert {row["profile"] for row in rows} == {"custom"}
    assert all(row["departures"]["learning_rate"] == [0.01, 0.1] for row in rows)


def test_a_failed_training_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["exp1", *QUICK, "--learning-rate", "1e30", "--results", str(tmp_path)]
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 1
        assert "benchmarks: 0 of 1 jobs done, 1 failed" in capsys.readouterr().err
    (row,) = _rows(tmp_path)
    assert row["status"] == "failed"
    assert "the loss is nan" in row["message"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "imagenet"], "data 'imagenet': no such data set"),
        (["--model", "resnet19"], "model 'resnet19': no such model"),
        (["--train-limit", "0"], "--train-limit: 0; expected 1 or more"),
        (["--epochs", "0"], "--epochs: 0; expected 1 or more"),
        (["--runs", "0"], "--runs: 0; expected 1 or more"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["exp1", *arguments, "--results", str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("part", PARTS)
def test_exp2_runs_the_parts_that_are_asked_for(part: Part) -> None:
    jobs = EXPERIMENTS["exp2"].jobs(narrowed(PROFILES["smoke"], parts=(part,)))
    assert {job.kind for job in jobs} == {part}
