"""The command line: one subcommand per experiment, all with the same options."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from benchmarks.errors import BenchmarkError
from benchmarks.executors.execute import Executor, execute, rows_of, state
from benchmarks.experiments import COMMANDS, EXPERIMENTS
from benchmarks.experiments.experiment import Experiment
from benchmarks.runs.interrupts import Interrupted, interruptible
from benchmarks.runs.jobs import Job, Precision, in_order
from benchmarks.runs.profiles import PROFILES, Profile, ProfileName, narrowed
from benchmarks.runs.workspace import BudgetSpent, Place, Workspace
from benchmarks.subjects.arrangements import Arrangement
from td_transform.table import format_table

_DESCRIPTION = "Every experiment of Lelekas et al. (2020), for their networks and for your own."


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What replaces a value of the profile.

    Args:
        model: lenet-fc, nin-light, nin, resnet32, resnet18-imagenette, a torchvision name
            (resnet18), a timm name (timm:resnet26) or package.module:callable.
        data: digits, mnist, fashion-mnist, cifar10, imagenette or imagefolder:/path.
        augmented: train on changed images.
        arrangements: which networks; bu is the model itself.
        runs: repetitions of every training.
        attacked_runs: how many of these are attacked.
        epochs: passes through the training images.
        batch: images per step.
        learning_rate: of the first half of the epochs.
        weight_decay: as PyTorch counts it, on kernels only.
        norm_momentum: of the batch normalisations' running averages.
        train_limit: how many training images.
        test_limit: how many test images.
        precision: of a training's arithmetic on a GPU.
        channels_last: order of the maps in memory.
        compile: train through torch.compile.
        seed: of everything.
        attack_images: test images per network of the ten attacks.
        attack_repeats: of which the worst counts.
        strong_images: test images per network of the gradient attacks.
        corruption_images: test images per network and corruption.
        localisation_images: test images per pair of networks.
        pictures: heatmaps drawn per network.
        masks: the explained objects as a data set laid out like the images, for example
            imagefolder:/path.
    """

    model: str | None = None
    data: str | None = None
    augmented: bool | None = None
    arrangements: tuple[Arrangement, ...] | None = None
    runs: int | None = None
    attacked_runs: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    norm_momentum: float | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    precision: Precision | None = None
    channels_last: bool | None = None
    compile: bool | None = None
    seed: int | None = None
    attack_images: int | None = None
    attack_repeats: int | None = None
    strong_images: int | None = None
    corruption_images: int | None = None
    localisation_images: int | None = None
    pictures: int | None = None
    masks: str | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an experiment is run.

    Args:
        profile: smoke (seconds), cpu (an hour on two cores) or paper (the full recipe, on a GPU).
        results: the folder of the results; several processes may share it.
        data_root: the folder of the data sets; by default $TD_TRANSFORM_DATA, else
            ~/.cache/td_transform.
        device: cpu, cuda, cuda:1...; auto takes a GPU where there is one.
        executor: local (this process), processes (several, on this machine) or ray (a cluster).
        workers: how many, for processes and ray.
        ray_address: of the cluster; one is started here if there is none.
        gpu_share: the part of a GPU that a job takes on the ray cluster.
        time_budget: stop, with a checkpoint, before this many minutes are over.
        dry_run: only list the jobs, with their ids and where they stand.
        overrides: what replaces a value of the profile.
    """

    profile: ProfileName = "smoke"
    results: Path = Path("results")
    data_root: Path | None = None
    device: str = "auto"
    executor: Executor = "local"
    workers: int = 2
    ray_address: str | None = None
    gpu_share: float = 1.0
    time_budget: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    dry_run: bool = False
    overrides: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def resolved_profile(self) -> Profile:
        """The profile with the overrides applied."""
        return narrowed(PROFILES[self.profile], **asdict(self.overrides))

    def place(self) -> Place:
        """Where the jobs run; the time budget begins now."""
        on_gpu = torch.cuda.is_available()
        budget = self.time_budget
        return Place(
            root=self.results,
            data_root=self.data_root,
            device=("cuda" if on_gpu else "cpu") if self.device == "auto" else self.device,
            profile=self.profile,
            deadline=None if budget is None else time.time() + 60 * budget,
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 1 where a job failed, 2 for an error in what was asked for, 130 after Ctrl-C and 143
    after SIGTERM. A spent time budget is no error.

    Args:
        args: the arguments; those that the process was started with by default.

    Example:
        >>> main(["exp1", "--dry-run"])  # doctest: +SKIP
    """
    try:
        with interruptible():
            tyro.extras.subcommand_cli_from_dict(
                _subcommands(),
                prog="python -m benchmarks",
                description=_DESCRIPTION,
                args=args,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except BenchmarkError as error:
        _tell(" ".join(str(error).split()))
        raise SystemExit(2) from None
    except Interrupted as interrupt:
        _tell(f"{interrupt}: stopped; the same command goes on from here")
        raise SystemExit(interrupt.exit_code) from None


def _subcommands() -> dict[str, Callable[..., None]]:
    commands = {name: _subcommand(experiment) for name, experiment in EXPERIMENTS.items()}
    return {**commands, **COMMANDS}


def _subcommand(experiment: Experiment) -> Callable[..., None]:
    def command(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
        run(experiment, options)

    command.__doc__ = experiment.summary
    return command


def run(experiment: Experiment, options: Options) -> None:
    """Run an experiment's jobs and print its table.

    Args:
        experiment: of the registry.
        options: how to run it.
    """
    listed = list(experiment.jobs(options.resolved_profile()))
    place = options.place()
    if options.dry_run:
        print("\n".join(listing(listed, Workspace(place))))
        return
    try:
        execute(
            listed,
            place,
            executor=options.executor,
            workers=options.workers,
            address=options.ray_address,
            gpu_share=options.gpu_share,
        )
    except BudgetSpent:
        _tell("the time budget is spent; the same command goes on from here")
    # of the processes that torchrun started one is enough to tell
    if os.environ.get("RANK", "0") == "0":
        _report(experiment, listed, Workspace(place))


def listing(jobs: Sequence[Job], workspace: Workspace) -> list[str]:
    """A line per job, with what it needs: id, where it stands, what it is."""
    rows = [[job.id, state(job, workspace), job.label] for job in in_order(jobs)]
    return format_table(["job", "state", "what"], rows)


def _report(experiment: Experiment, jobs: Sequence[Job], workspace: Workspace) -> None:
    rows = rows_of(jobs, workspace)
    if rows:
        print(experiment.table(rows))
    states = [state(job, workspace) for job in in_order(jobs)]
    unfinished = [f"{states.count(s)} {s}" for s in ("failed", "started", "to do") if s in states]
    if unfinished:
        _tell(f"{states.count('done')} of {len(states)} jobs done, {', '.join(unfinished)}")
    if "failed" in states:
        raise SystemExit(1)


def _tell(message: str) -> None:
    print("benchmarks:", message, file=sys.stderr)
