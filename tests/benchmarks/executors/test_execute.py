"""Jobs and their ids, the store, and who runs what when several processes share a folder."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.executors import local
from benchmarks.executors.local import attempt, rows_of, state, work
from benchmarks.runs.jobs import Job, Row, in_order
from benchmarks.runs.profiles import PROFILES, Setting, narrowed
from benchmarks.runs.recipes import recipe, training, trainings
from benchmarks.runs.store import Store
from benchmarks.runs.workspace import BudgetSpent, JobFailed, Place, Workspace


@dataclass(frozen=True)
class Work:
    """A configuration for jobs of these tests."""

    name: str
    seed: int = 0


def _job(name: str, *needs: Job) -> Job:
    return Job("work", Work(name), tuple(needs))


def _handle(job: Job, workspace: Workspace) -> list[Row]:
    if job.config.name == "bad":
        raise JobFailed("no numbers")
    return [{"value": job.config.name}]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setitem(local.HANDLERS, "work", _handle)
    monkeypatch.setitem(local.OWNERS, "work", "test")
    return Workspace(Place(root=tmp_path / "results", quiet=True))


# Identity

_TRAINING = training(Setting("lenet-fc", "mnist"), "td", 0, PROFILES["paper"])


def test_an_id_is_the_hash_of_the_configuration() -> None:
    again = training(Setting("lenet-fc", "mnist"), "td", 0, PROFILES["paper"])
    assert again.id == _TRAINING.id
    # written down: an id that changes makes all results ever stored unknown
    assert _job("a").id == "8f463d4445fd"


@pytest.mark.parametrize(
    "change",
    [{"run": 1}, {"epochs": 31}, {"seed": 1}, {"train_limit": 10}, {"precision": "bf16"}],
    ids=str,
)
def test_any_change_of_the_configuration_changes_the_id(change: dict[str, Any]) -> None:
    assert Job("train", replace(_TRAINING.config, **change)).id != _TRAINING.id


def test_kind_and_needs_are_part_of_the_id() -> None:
    ids = {_job("a").id, Job("other", Work("a")).id, _job("a", _job("b")).id}
    assert len(ids) == 3


def test_what_is_needed_comes_first_and_once() -> None:
    first = _job("first")
    second, third = _job("second", first), _job("third", first)
    last = _job("last", third, second)
    ordered = in_order([last, second, first])
    assert [job.config.name for job in ordered] == ["first", "third", "second", "last"]


def test_a_setting_is_inherited_from_the_training() -> None:
    job = Job("work", Work("attack", seed=7), (_TRAINING,))
    assert (job.setting["model"], job.setting["seed"]) == ("lenet-fc", 7)
    assert job.label == "work lenet-fc td mnist run 0"


# Recipes


@pytest.mark.parametrize(
    ("model", "data", "augmented", "arrangement", "expected"),
    [
        ("lenet-fc", "mnist", False, "bu", (50, 0.0, 0.1, 128)),
        ("lenet-fc", "mnist", False, "td", (30, 0.0, 0.1, 128)),
        ("nin-light", "mnist", False, "td", (50, 0.0, 0.1, 128)),
        ("lenet-fc", "fashion-mnist", False, "td", (40, 0.0, 0.1, 128)),
        ("nin-light", "fashion-mnist", False, "bu", (50, 0.0, 0.1, 128)),
        ("nin", "cifar10", False, "bu", (100, 5e-4, 0.1, 128)),
        ("resnet32", "cifar10", True, "td", (200, 1e-4, 0.1, 128)),
        ("resnet18-imagenette", "imagenette", True, "bu", (50, 1e-3, 0.1, 128)),
        ("resnet18-imagenette", "imagenette", True, "td", (50, 1e-3, 0.05, 64)),
        ("resnet18-imagenette", "imagenette-64", True, "td", (50, 1e-3, 0.05, 64)),
        ("timm:resnet26", "imagefolder:/x", False, "bu", (100, 5e-4, 0.1, 128)),
    ],
)
def test_recipes_are_the_authors(
    model: str, data: str, augmented: bool, arrangement: Any, expected: tuple[float, ...]
) -> None:
    setting = Setting(model, data, augmented)
    found = recipe(setting, arrangement)
    assert (found.epochs, found.l2, found.learning_rate, found.batch) == expected
    config = training(setting, arrangement, 0, PROFILES["paper"]).config
    assert (config.epochs, config.weight_decay) == (expected[0], 2 * expected[1])


def test_the_paper_profile_is_the_papers() -> None:
    jobs = trainings(PROFILES["paper"])
    assert len({job.id for job in jobs}) == len(jobs) == 4 * 4 * 8
    assert {job.config.run for job in jobs[: 4 * 8]} == {0}


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [
        ({"model": "nin-light"}, [("nin-light", "mnist"), ("nin-light", "fashion-mnist")]),
        ({"data": "mnist"}, [("lenet-fc", "mnist"), ("nin-light", "mnist")]),
        (
            {"data": "imagefolder:/x"},
            [("lenet-fc", "imagefolder:/x"), ("nin-light", "imagefolder:/x")],
        ),
        ({"model": "timm:a", "data": "digits"}, [("timm:a", "digits")]),
    ],
    ids=str,
)
def test_profiles_are_narrowed_to_what_the_user_names(
    wanted: dict[str, str], settings: list[tuple[str, str]]
) -> None:
    profile = narrowed(PROFILES["cpu"], **wanted, runs=3, epochs=None)
    assert [(s.model, s.data) for s in profile.settings] == settings
    assert profile.runs == 3
    assert profile.epochs == PROFILES["cpu"].epochs


# The store


def _append_many(root: Path, name: str) -> None:
    store = Store(root)
    for number in range(25):
        store.append(*({"job": f"{name}{number}", "status": "done", "part": i} for i in range(3)))


def test_two_processes_append_to_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    seen = 0
    store = Store(tmp_path)
    while any(writer.is_alive() for writer in writers):
        rows = store.rows()
        assert len(rows) % 3 == 0, "rows that were added together are seen together"
        assert len(rows) >= seen
        seen = len(rows)
    assert [writer.exitcode for writer in writers] == [0, 0]
    rows = store.rows()
    assert len(rows) == 150
    assert [row["part"] for row in rows] == [0, 1, 2] * 50
    assert not list(tmp_path.glob("*.part")), "nothing is left behind"


def test_a_store_knows_what_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    assert store.rows() == []
    assert not (tmp_path / "new").exists()
    store.append({"job": "a", "status": "failed"}, {"job": "b", "status": "done"})
    assert (store.status("a"), store.status("b"), store.status("c")) == ("failed", "done", None)
    assert (store.done("a"), store.done("b")) == (False, True)
    Store(tmp_path / "new").append({"job": "a", "status": "done"})
    assert store.done("a")


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append({"job": "a", "loss": float("nan")})
    assert store.rows() == []


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"job": "a", "status": "done"}\nno json\n')
    with pytest.raises(BenchmarkError, match=r"line 2: b'no json.*Remedy: delete that line"):
        Store(tmp_path).rows()


# Running


def test_every_row_says_where_it_comes_from(workspace: Workspace) -> None:
    job = Job("work", Work("attack", seed=5), (_TRAINING,))
    workspace.store.append({"job": _TRAINING.id, "status": "done"})
    assert attempt(job, workspace)
    (row,) = rows_of([job], workspace)
    expected = {
        "experiment": "test", "job": job.id, "kind": "work", "status": "done", "seed": 5,
        "model": "lenet-fc", "arrangement": "td", "data": "mnist", "augmented": False, "run": 0,
        "profile": "smoke", "device": "cpu", "value": "attack",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    for name in ("seconds", "cpu", "torch", "commit", "finished", "python", "cores", "threads"):
        assert row[name] is not None, name
    # all that is not flat is what departs from the paper's recipe
    assert [name for name, value in row.items() if isinstance(value, dict)] == ["departures"]
    assert json.loads(workspace.store.path.read_text().splitlines()[-1]) == row


def test_jobs_run_after_what_they_need_and_only_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def handle(job: Job, workspace: Workspace) -> list[Row]:
        ran.append(job.config.name)
        return [{}]

    monkeypatch.setitem(local.HANDLERS, "work", handle)
    first = _job("first")
    ordered = in_order([_job("second", first), _job("third")])
    work(ordered, workspace)
    work(ordered, workspace)
    assert ran == ["first", "second", "third"]
    assert [state(job, workspace) for job in ordered] == ["done"] * 3
    assert not workspace.checkpoint(first).exists()


def test_a_failure_is_recorded_and_stops_only_what_needs_it(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = _job("bad")
    child = _job("child", bad)
    jobs = in_order([child, _job("grandchild", child), _job("other")])
    work(jobs, workspace)
    assert [state(job, workspace) for job in jobs] == ["failed", "to do", "to do", "done"]
    (row,) = (row for row in workspace.store.rows() if row["job"] == bad.id)
    assert (row["status"], row["message"]) == ("failed", "no numbers")
    said = capsys.readouterr().err
    assert f"failed: work ({bad.id}): no numbers" in said
    assert said.count("skipped: work") == 2
    assert rows_of([bad], workspace) == []


def test_an_error_leaves_no_row_and_no_lock(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job: Job, workspace: Workspace) -> Iterable[Row]:
        yield {"value": 1}
        raise ZeroDivisionError

    monkeypatch.setitem(local.HANDLERS, "work", broken)
    with pytest.raises(ZeroDivisionError):
        work([_job("a")], workspace)
    assert workspace.store.rows() == []
    monkeypatch.setitem(local.HANDLERS, "work", _handle)
    work([_job("a")], workspace)
    assert workspace.store.done(_job("a").id)


def test_a_handler_without_rows_is_a_mistake(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(local.HANDLERS, "work", lambda job, workspace: [])
    with pytest.raises(RuntimeError, match="handler of 'work' returned no row"):
        work([_job("a")], workspace)


def _hold(root: Path, job: Job, seconds: float, ready: Any) -> None:
    with Workspace(Place(root=root)).lock(job):
        ready.set()
        time.sleep(seconds)


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_what_another_process_holds_is_waited_for_and_taken_over(
    workspace: Workspace, end: str
) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    job, free = _job("held"), _job("free")
    seconds = 1.0 if end == "finished" else 600.0
    other = context.Process(target=_hold, args=(workspace.root, job, seconds, ready))
    other.start()
    assert ready.wait(20)
    assert not attempt(job, workspace)
    assert attempt(free, workspace)
    if end == "killed":
        other.kill()
    work([job, free], workspace)
    other.join()
    assert len(workspace.store.rows()) == 2
    assert workspace.store.done(job.id)


def test_no_job_begins_after_the_deadline(workspace: Workspace) -> None:
    late = Workspace(replace(workspace.place, deadline=time.time() - 1))
    with pytest.raises(BudgetSpent):
        work([_job("a")], late)
    assert late.store.rows() == []
    work([], late)
