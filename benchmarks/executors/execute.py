"""Run a list of jobs: here, in several processes, under torchrun, or on a Ray cluster.

However many processes share a results folder, each job is run by one: it holds the job's lock, and
the system releases that lock when the process dies. Whoever finds a job's rows skips it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from benchmarks.errors import BenchmarkError
from benchmarks.executors import local
from benchmarks.runs.arithmetic import make_deterministic
from benchmarks.runs.interrupts import interruptible
from benchmarks.runs.jobs import Job, in_order
from benchmarks.runs.workspace import Place, Workspace

Executor = Literal["local", "processes", "ray"]


def execute(
    jobs: Sequence[Job],
    place: Place,
    *,
    executor: Executor = "local",
    workers: int = 2,
    address: str | None = None,
    gpu_share: float = 1.0,
) -> None:
    """Run the jobs and all that they need; those that are done are skipped.

    Args:
        jobs: in the order in which they should be run.
        place: the results folder, and how to run in it.
        executor: `local` runs in this process, `processes` in several on this machine (which share
            its GPUs), `ray` on a cluster.
        workers: how many, for `processes` and `ray`.
        address: of the Ray cluster; one is started here where None.
        gpu_share: the part of a GPU that a job takes on the Ray cluster.

    Raises:
        BudgetSpent: the deadline is near; a later call goes on.
        Interrupted: Ctrl-C or SIGTERM; a later call goes on.
        BenchmarkError: a worker process ended with an error (its traceback is on stderr).
    """
    ordered = in_order(jobs)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _together(ordered, place, executor)
    elif executor == "ray":
        _ray(ordered, place, workers=workers, address=address, gpu_share=gpu_share)
    elif executor == "processes":
        local.in_processes(ordered, place, workers)
    else:
        with interruptible():
            make_deterministic()
            local.work(ordered, Workspace(place))


def _together(ordered: Sequence[Job], place: Place, executor: Executor) -> None:
    """Under torchrun: one training at a time, by all processes."""
    if executor != "local":
        raise BenchmarkError(
            "torchrun", seen=f"the executor {executor!r} in each of its processes",
            expected="the executor 'local'", remedy="leave out --executor, or torchrun",
        )  # fmt: skip
    from benchmarks.executors import torchrun

    with interruptible():
        make_deterministic()
        torchrun.execute(ordered, place)


def _ray(ordered: Sequence[Job], place: Place, **options: Any) -> None:
    try:
        from benchmarks.executors import ray_cluster
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            "executor 'ray'", seen=f"no module named '{error.name}'", expected="an installed Ray",
            remedy="pip install ray, or choose the executor 'processes'",
        ) from error  # fmt: skip
    ray_cluster.execute(ordered, place, **options)
