"""One training by all processes that torchrun started (data parallel).

    torchrun --nproc-per-node 2 -m benchmarks exp1 --profile paper

The result is that of one process up to rounding, dropout aside: every process takes its share of
each batch of the recipe, torch's DistributedDataParallel averages the gradients, and batch
normalisation sees the whole batch: torch's SyncBatchNorm on GPUs; on CPUs, where that does not run,
`WholeBatchNorm` does the same. Only the leader, rank 0, writes; what is no training it does alone.
The results folder has to be one that all processes see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from benchmarks.executors.local import run, work
from benchmarks.measures.training import Trainer, outcome
from benchmarks.runs.interrupts import Interrupted, held_back, pending
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.workspace import BudgetSpent, JobFailed, Place, Workspace
from benchmarks.subjects.networks import Normalised
from benchmarks.subjects.whole_batch_norm import normalise_whole_batches

# The others wait this long while the leader attacks a network, say.
_PATIENCE = timedelta(days=14)


@dataclass(frozen=True)
class Team:
    """The processes of a torchrun.

    Args:
        rank: this one's number; 0 leads.
        size: how many there are.
        control: a process group for decisions, on CPUs.
    """

    rank: int
    size: int
    control: dist.ProcessGroup

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def leaders(self, decision: bool) -> bool:
        """What the leader decided."""
        told = [decision]
        dist.broadcast_object_list(told, src=0, group=self.control)
        return told[0]

    def largest(self, *numbers: int) -> list[int]:
        """Of each number the largest that any process has."""
        values = torch.tensor(numbers)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.control)
        return values.tolist()

    def wait(self) -> None:
        """For all others."""
        dist.barrier(group=self.control)


def execute(ordered: Sequence[Job], place: Place) -> None:
    """Run jobs in every process of a torchrun; each calls this with the same jobs.

    Args:
        ordered: jobs after what they need (`in_order`).
        place: where they run; on `cuda` every process takes the GPU of its local rank.

    Raises:
        BudgetSpent: the leader's deadline is near.
        Interrupted: Ctrl-C or SIGTERM in one of the processes.
    """
    device = place.device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    with _team(on_gpu=device.startswith("cuda")) as team:
        quiet = place.quiet or not team.leads
        workspace = Workspace(replace(place, device=device, quiet=quiet))
        for job in ordered:
            if job.kind == "train":
                _train_together(job, workspace, team)
            elif team.leads:
                work([job], workspace)
        team.wait()


@contextmanager
def _team(*, on_gpu: bool) -> Iterator[Team]:
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        control: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Team(dist.get_rank(), dist.get_world_size(), control)
    finally:
        dist.destroy_process_group()


def _train_together(job: Job, workspace: Workspace, team: Team) -> None:
    with _leaders_lock(job, workspace, team):
        if not team.leaders(workspace.store.status(job.id) is None):
            return
        if team.leads:
            # the first to read a data set downloads or decodes it
            workspace.data(job.config)
        team.wait()

        def handler(job: Job, workspace: Workspace) -> list[Row]:
            trainer = TeamTrainer(job, workspace, team)
            trainer.run()
            return [{**row, "processes": team.size} for row in outcome(trainer)]

        if team.leads:
            run(job, workspace, handler=handler)
        else:
            # the leader records a failure
            with suppress(JobFailed):
                TeamTrainer(job, workspace, team).run()


@contextmanager
def _leaders_lock(job: Job, workspace: Workspace, team: Team) -> Iterator[None]:
    if not team.leads:
        yield
        return
    with workspace.lock(job):
        yield


class TeamTrainer(Trainer):
    """A training of which every process does its share.

    Args:
        job: of kind `train`.
        workspace: where it runs; its folder is the same in all processes.
        team: who trains.
    """

    def __init__(self, job: Job, workspace: Workspace, team: Team) -> None:
        self.team = team
        # other images are dropped out by other random numbers
        self.member = (team.rank,) if team.rank else ()
        super().__init__(job, workspace)
        # all have read the checkpoint before the leader writes the next
        team.wait()

    def _fresh_network(self) -> Normalised:
        network = super()._fresh_network()
        normalise_whole_batches(network)
        return network

    def _callee(self) -> nn.Module:
        gpus = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=gpus, forward_sync_buffers=False)

    def _run_epoch(self, bar: tqdm[Any]) -> None:
        # a signal waits until all know of it
        with held_back():
            super()._run_epoch(bar)

    def _pause_if_due(self) -> None:
        """All stop after the same step, whoever was asked to."""
        due = False
        try:
            super()._pause_if_due()
        except BudgetSpent:
            due = True
        spent, signal = self.team.largest(due, pending())
        if signal:
            raise Interrupted(signal)
        if spent:
            raise BudgetSpent

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of this process's share, so weighted that the mean over processes is the batch's."""
        if len(labels) < self.team.size:
            return super()._loss(images, labels)
        own = slice(self.team.rank, None, self.team.size)
        weight = len(labels[own]) * self.team.size / len(labels)
        return weight * super()._loss(images[own], labels[own])

    def _recorded(self, loss: Tensor) -> Tensor:
        whole = loss.detach().clone()
        dist.all_reduce(whole)
        return whole / self.team.size

    def _save(self) -> None:
        if self.team.leads:
            super()._save()

    def _load(self) -> None:
        super()._load()
        if not self.team.leads:
            torch.manual_seed(self.seeds.of("dropout", self.epoch, self.step, *self.member))
