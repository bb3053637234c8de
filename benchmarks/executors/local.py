"""Run a list of jobs in this process, or in several on this machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from filelock import Timeout
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.experiments import HANDLERS, OWNERS
from benchmarks.experiments.experiment import Handler
from benchmarks.runs.arithmetic import make_deterministic
from benchmarks.runs.interrupts import Interrupted, held_back, ignored_by_children, interruptible
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.workspace import BudgetSpent, JobFailed, Place, Workspace

State = Literal["done", "failed", "started", "to do"]

_POLL_SECONDS = 0.2


def state(job: Job, workspace: Workspace) -> State:
    """Where a job stands, without changing anything."""
    status = workspace.store.status(job.id)
    if status is not None:
        return "done" if status == "done" else "failed"
    begun = workspace.root / "runs" / job.id / "checkpoint.pt"
    return "started" if begun.exists() else "to do"


def work(ordered: Sequence[Job], workspace: Workspace) -> None:
    """Run what is not done in this process; wait for what others hold, and take over if they die.

    Args:
        ordered: jobs after what they need (`in_order`).
        workspace: where they run.
    """
    waiting = list(ordered)
    blocked: set[str] = set()
    place = workspace.place
    with tqdm(
        total=len(ordered), desc="jobs", unit="job", position=place.line,
        disable=place.quiet or place.line > 0 or None,
    ) as bar:  # fmt: skip
        while waiting:
            left = []
            for job in waiting:
                if _ended(job, workspace, blocked) or attempt(job, workspace):
                    bar.update()
                else:
                    left.append(job)
            if len(left) == len(waiting):
                workspace.pause_if_due(_POLL_SECONDS)
                time.sleep(_POLL_SECONDS)
            waiting = left


def attempt(job: Job, workspace: Workspace) -> bool:
    """Run a job unless it waits for another, or another process runs it; did it end?"""
    if any(workspace.store.status(needed.id) is None for needed in job.needs):
        return False
    workspace.pause_if_due()
    lock = workspace.lock(job)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    try:
        # it may have been done between the look at the store and the lock
        if workspace.store.status(job.id) is None:
            run(job, workspace)
    finally:
        lock.release()
    return True


def run(job: Job, workspace: Workspace, *, handler: Handler | None = None) -> None:
    """Run a job whose lock is held, and store its rows.

    Args:
        job: what to run.
        workspace: where.
        handler: what does it; that of the job's kind by default.
    """
    start = time.perf_counter()
    try:
        found = list((handler or HANDLERS[job.kind])(job, workspace))
    except JobFailed as error:
        found = [{"status": "failed", "message": str(error)}]
        _tell(f"failed: {job.label} ({job.id}): {error}")
    if not found:
        raise RuntimeError(f"the handler of {job.kind!r} returned no row for {job.label}")
    seconds = time.perf_counter() - start
    experiment = OWNERS[job.kind]
    rows = [workspace.row(job, row, experiment=experiment, seconds=seconds) for row in found]
    with held_back():
        workspace.store.append(*rows)
        workspace.checkpoint(job).unlink(missing_ok=True)


def rows_of(jobs: Sequence[Job], workspace: Workspace) -> list[Row]:
    """The rows of those jobs that are done, in the order of the jobs."""
    found: dict[str, list[Row]] = {job.id: [] for job in jobs}
    for row in workspace.store.rows():
        if row["job"] in found and row["status"] == "done":
            found[str(row["job"])].append(row)
    return [row for rows in found.values() for row in rows]


def _ended(job: Job, workspace: Workspace, blocked: set[str]) -> bool:
    """Done or failed, or what it needs is: such a job can't be run."""
    if workspace.store.status(job.id) is not None:
        return True
    for needed in job.needs:
        if needed.id in blocked or workspace.store.status(needed.id) == "failed":
            blocked.add(job.id)
            _tell(f"skipped: {job.label} ({job.id}): {needed.label} failed")
            return True
    return False


def in_processes(ordered: Sequence[Job], place: Place, workers: int) -> None:
    """Several processes that each run `work`: the locks share the jobs out."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_worker, args=(ordered, place, number, workers))
        for number in range(workers)
    ]
    with interruptible():
        try:
            with ignored_by_children():
                for process in processes:
                    process.start()
            for process in processes:
                process.join()
        except Interrupted:
            for process in processes:
                if process.is_alive():
                    process.terminate()
            for process in processes:
                process.join()
            raise
    codes = [process.exitcode for process in processes]
    if os.EX_TEMPFAIL in codes:
        raise BudgetSpent
    if any(codes):
        raise BenchmarkError(
            "executor 'processes'", seen=f"workers ended with the codes {codes}",
            expected="0 from each", remedy="read their messages above; a later call goes on",
        )  # fmt: skip


def _worker(ordered: Sequence[Job], place: Place, number: int, workers: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    make_deterministic()
    device = place.device
    if device == "cuda" and torch.cuda.device_count() > 1:
        device = f"cuda:{number % torch.cuda.device_count()}"
    try:
        with interruptible():
            work(ordered, Workspace(replace(place, device=device, line=number + 1)))
    except BudgetSpent:
        sys.exit(os.EX_TEMPFAIL)
    except Interrupted as signal:
        sys.exit(signal.exit_code)


def _tell(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
