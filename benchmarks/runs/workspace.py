"""A results folder and what the jobs in it share: data, trained networks, the store, the deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock
from torch import nn

from benchmarks.errors import BenchmarkError
from benchmarks.runs.departures import departures
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.stamp import stamp
from benchmarks.runs.store import Store
from benchmarks.subjects import datasets
from benchmarks.subjects.datasets import ImageSet
from benchmarks.subjects.networks import Statistics, build


class JobFailed(Exception):
    """A job ended without a result (a loss that is not a number, say); it is recorded as failed."""


class BudgetSpent(Exception):
    """The time budget is used up; what the job has is saved, and a later call goes on from there."""


class ImageConfig(Protocol):
    """The part of a job's configuration that says which images it reads."""

    @property
    def data(self) -> str: ...
    @property
    def train_limit(self) -> int | None: ...
    @property
    def test_limit(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and as what jobs are run; travels to other processes.

    Args:
        root: the results folder.
        data_root: the folder of the data sets; `benchmarks.subjects.datasets.default_root()` where None.
        device: `cpu`, `cuda`, `cuda:1`...
        profile: what the rows' column `profile` says.
        deadline: seconds since the epoch at which no job may still run.
        quiet: no progress bars.
        line: of the terminal, for the progress bar.
    """

    root: Path
    data_root: Path | None = None
    device: str = "cpu"
    profile: str = "smoke"
    deadline: float | None = None
    quiet: bool = False
    line: int = 0


class Workspace:
    """A results folder as the handlers of jobs see it.

    Args:
        place: where the folder is, and how jobs are run in it.

    Example:
        >>> import tempfile
        >>> workspace = Workspace(Place(root=Path(tempfile.mkdtemp())))
        >>> workspace.store.rows()
        []
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.root = place.root
        self.data_root = place.data_root
        self.device = torch.device(place.device)
        self.store = Store(place.root)
        self._data: dict[tuple[Any, ...], ImageSet] = {}

    @cached_property
    def stamp(self) -> Row:
        """Hardware, versions and commit."""
        return stamp(self.device)

    def folder(self, job: Job) -> Path:
        """runs/<id>, made where it is missing."""
        folder = self.root / "runs" / job.id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def file(self, job: Job, name: str) -> Path:
        """Where a job's picture or array belongs: runs/<id>/<name>."""
        return self.folder(job) / name

    def checkpoint(self, job: Job) -> Path:
        """What an unfinished job goes on from; the executor deletes it when the job is done."""
        return self.file(job, "checkpoint.pt")

    def lock(self, job: Job) -> FileLock:
        """Held by the process that runs the job; the system releases it when that process dies."""
        return FileLock(self.file(job, ".lock"))

    def data(self, config: ImageConfig) -> ImageSet:
        """The images that a configuration names, on the device; kept in memory."""
        key = (config.data, config.train_limit, config.test_limit)
        if key not in self._data:
            limits = (config.train_limit, config.test_limit)
            loaded = datasets.load(config.data, root=self.data_root, limits=limits)
            self._data[key] = loaded.to(self.device)
        return self._data[key]

    def network(self, job: Job) -> nn.Module:
        """The network of a training that is done: on the device, in eval mode, for images in [0, 1].

        Args:
            job: of kind `train`.

        Raises:
            BenchmarkError: the results came without the folder runs/.
        """
        images = self.data(job.config)
        weights = self.root / "runs" / job.id / "model.pt"
        if not weights.exists():
            raise BenchmarkError(
                f"{job.label} ({job.id})", seen=f"no {weights}", expected="its trained weights",
                remedy="name a results folder that has its runs/, or delete the training's line in "
                "results.jsonl to train it again",
            )  # fmt: skip
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network = build(
            job.config.model,
            arrangement=job.config.arrangement,
            size=images.size,
            classes=len(images.classes),
            statistics=Statistics(state["mean"], state["deviation"]),
        )
        network.load_state_dict(state)
        return network.to(self.device).eval()

    def pause_if_due(self, seconds: float = 0.0) -> None:
        """For long handlers, where nothing would be lost.

        Args:
            seconds: what the next step takes.

        Raises:
            BudgetSpent: the time left is shorter.
        """
        deadline = self.place.deadline
        if deadline is not None and time.time() + seconds >= deadline:
            raise BudgetSpent

    def row(self, job: Job, found: Row, *, experiment: str, seconds: float) -> Row:
        """A handler's row with the columns that every row has; the handler's own win."""
        setting = job.setting
        common: Row = {
            "experiment": experiment,
            "job": job.id,
            "kind": job.kind,
            "status": "done",
            **{name: setting.get(name) for name in _SETTING},
            "profile": self.place.profile,
            "departures": departures(job),
            "seconds": round(seconds, 2),
            **self.stamp,
            "seed": setting.get("seed", 0),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        return {**common, **found}


_SETTING = ("model", "arrangement", "data", "augmented", "run")
