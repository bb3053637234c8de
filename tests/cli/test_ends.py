"""How `td-transform` ends: exit codes, tracebacks, readers that leave; and as a program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from td_transform import TopDownError
from td_transform.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "args", [[], ["convert"], ["convert", "x", "--arrangement", "no"], ["fly"]]
)
def test_what_cant_be_parsed_ends_with_2(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--help" in printed.err
    assert "\x1b" not in printed.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, r"^$"),
        (
            PermissionError(13, "Permission denied", "td.pt"),
            2,
            r"^td-transform: .*denied: 'td.pt'$",
        ),
        (
            ZeroDivisionError("a\nb"),
            1,
            r"^td-transform: ZeroDivisionError: a b \(in .*, line \d+\);",
        ),
    ],
)
def test_every_end_has_its_code_and_no_traceback(
    error: BaseException, code: int, text: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(spec: str) -> nn.Module:
        raise error

    monkeypatch.delenv("TD_TRANSFORM_TRACEBACK", raising=False)
    monkeypatch.setattr("td_transform.cli.convert.load_model", fail)
    with pytest.raises(SystemExit, match=str(code)):
        main(["convert", "resnet18"])
    assert re.search(text, capsys.readouterr().err.rstrip("\n"))


def test_who_wants_the_traceback_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TD_TRANSFORM_TRACEBACK", "1")
    with pytest.raises(TopDownError, match="no such model"):
        main(["convert", "resnet81"])


@pytest.mark.exhaustive
def test_a_users_file_may_import_torchvision(tmp_path: Path) -> None:
    """On a CPU-only torch, too: in a process of its own, where nothing has imported it before."""
    (tmp_path / "nets.py").write_text("from torchvision.models import resnet18 as build")
    command = [sys.executable, "-m", "td_transform", "rf", "nets:build", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["network"] == "bottom-up"


@pytest.mark.exhaustive
def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m td_transform rf resnet18 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 141
    assert done.stderr == ""


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "td_transform", "convert", "torch.nn:Identity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("td-transform: ")
    assert done.stderr.count("\n") == 1


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, td_transform; "
        "print({'torchvision', 'timm', 'tyro', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr
