"""Run a list of jobs on a Ray cluster.

Every job is a Ray task that takes the tasks of the jobs it needs as arguments, so that Ray starts
it when these have ended. The results folder has to be one that all machines see, under the same
path: rows, checkpoints and locks are kept there as by the other executors. A task whose worker or
machine dies is started again elsewhere, and goes on from the job's checkpoint.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray.exceptions import RayError
from tqdm import tqdm

import benchmarks
import td_transform
from benchmarks.errors import BenchmarkError
from benchmarks.executors.local import work
from benchmarks.runs.arithmetic import make_deterministic
from benchmarks.runs.interrupts import Interrupted, held_back, interruptible
from benchmarks.runs.jobs import Job
from benchmarks.runs.stamp import COMMIT_VARIABLE, commit
from benchmarks.runs.workspace import BudgetSpent, Place, Workspace

Outcome = Literal["ended", "blocked", "out of time"]

RETRIES = 3
_CANCEL_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_POLL_SECONDS = 0.5


def execute(
    ordered: Sequence[Job],
    place: Place,
    *,
    workers: int,
    address: str | None,
    gpu_share: float = 1.0,
) -> None:
    """Run jobs as Ray tasks.

    Args:
        ordered: jobs after what they need (`in_order`).
        place: where they run; its folders are the same on all machines.
        workers: how many jobs at once on a cluster that is started here.
        address: of a cluster; one is started on this machine where None.
        gpu_share: the part of a GPU that a job on `cuda` takes; a quarter lets four share one.

    Raises:
        BudgetSpent: the deadline is near; a later call goes on.
        Interrupted: Ctrl-C or SIGTERM; a later call goes on.
        BenchmarkError: there is no such cluster, or jobs ended with an error.
    """
    silent = place.quiet or None
    data_root = place.data_root.resolve() if place.data_root else None
    place = replace(place, root=place.root.resolve(), data_root=data_root, quiet=True)
    with _cluster(workers, address), interruptible():
        tasks = _submit(ordered, place, gpu_share)
        try:
            outcomes = _outcomes(tasks, quiet=silent)
        except Interrupted:
            _cancel(tasks)
            raise
    if "out of time" in outcomes:
        raise BudgetSpent


@contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[None]:
    """A connection to the cluster, whose machines get this code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    modules = [str(Path(str(module.__file__)).parent) for module in (benchmarks, td_transform)]
    environment: dict[str, Any] = {"env_vars": {COMMIT_VARIABLE: commit() or ""}}
    options: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
    if address is not None:
        options = {"address": address}
        environment["py_modules"] = modules
        _check_address(address)
    ray.init(runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise BenchmarkError(
            "argument 'ray_address'", seen=f"nothing that answers at {address!r} ({error})",
            expected="the address of a running cluster, as `ray start --head` prints it",
            remedy="start one, or leave out --ray-address",
        ) from error  # fmt: skip


def _submit(ordered: Sequence[Job], place: Place, gpu_share: float) -> dict[str, Any]:
    """From job ids to the tasks that run them."""
    on_gpu = place.device.startswith("cuda")
    task: Any = ray.remote(num_cpus=1, num_gpus=gpu_share if on_gpu else 0, max_retries=RETRIES)(
        _run
    )
    tasks: dict[str, Any] = {}
    for job in ordered:
        needed = [tasks[other.id] for other in job.needs]
        tasks[job.id] = task.options(name=job.label).remote(job, place, *needed)
    return tasks


def _run(job: Job, place: Place, *needed: Outcome) -> Outcome:
    """One job, in a worker of the cluster.

    Args:
        job: what to run.
        place: where.
        needed: how the jobs that it needs ended.
    """
    for outcome in needed:
        if outcome != "ended":
            return outcome
    make_deterministic()
    # as many as Ray counts for a task
    torch.set_num_threads(1)
    try:
        with interruptible():
            work([job], _workspace(place))
    except BudgetSpent:
        return "out of time"
    workspace = _workspace(place)
    return "ended" if workspace.store.status(job.id) is not None else "blocked"


@lru_cache(maxsize=1)
def _workspace(place: Place) -> Workspace:
    """A worker keeps its data sets in memory from one task to the next."""
    return Workspace(place)


def _outcomes(tasks: dict[str, Any], *, quiet: bool | None) -> list[Outcome]:
    """How all tasks ended.

    Raises:
        BenchmarkError: some ended with an error.
    """
    waiting = list(tasks.values())
    outcomes: list[Outcome] = []
    errors: list[RayError] = []
    with tqdm(total=len(waiting), desc="jobs", unit="job", disable=quiet) as bar:
        while waiting:
            # in Ray's own code a signal would become a bare KeyboardInterrupt
            with held_back():
                ended, waiting = ray.wait(waiting, timeout=_POLL_SECONDS)
            bar.update(len(ended))
            for task in ended:
                try:
                    outcomes.append(ray.get(task))
                except RayError as error:
                    errors.append(error)
                    tqdm.write(str(error), file=sys.stderr)
    if errors:
        raise BenchmarkError(
            "executor 'ray'", seen=f"{len(errors)} of {len(tasks)} jobs ended with an error",
            expected="none", remedy="read their messages above; a later call goes on",
        )  # fmt: skip
    return outcomes


def _cancel(tasks: dict[str, Any]) -> None:
    """Let running jobs write their checkpoints."""
    for task in tasks.values():
        ray.cancel(task)
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=_CANCEL_SECONDS)
