"""The command line: one subcommand per experiment, all with the same options."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from benchmarks.errors import BenchmarkError
from benchmarks.executors.execute import Executor, execute
from benchmarks.executors.local import rows_of, state
from benchmarks.experiments import EXPERIMENTS, SECTIONS
from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.aggregate import read_rows
from benchmarks.findings.claims import judge
from benchmarks.findings.claims_page import as_text, write_page
from benchmarks.findings.report import write_report
from benchmarks.runs.interrupts import Interrupted, interruptible
from benchmarks.runs.jobs import Job, in_order
from benchmarks.runs.profiles import (
    CUSTOM,
    PROFILES,
    Profile,
    ProfileName,
    is_changed,
    narrowed,
    or_else,
)
from benchmarks.runs.workspace import BudgetSpent, Place, Workspace
from td_transform import TopDownError
from td_transform.cli.terminal import progress
from td_transform.table import format_table

_DESCRIPTION = "Every experiment of Lelekas et al. (2020), for their networks and for your own."


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an experiment is run.

    Args:
        profile: smoke (seconds), cpu (an hour on two cores), core (10 epochs on all images: days on a
            core) or paper (the authors' recipe).
        model: lenet-fc, nin-light, nin, resnet32, resnet18-imagenette, a torchvision name
            (resnet18), a timm name (timm:resnet26) or package.module:callable; all of the
            profile's where left out.
        data: digits, mnist, fashion-mnist, cifar10, imagenette, imagenette-64, imagenette-32 (smaller) or
            imagefolder:/path; as above.
        augmented: train on changed images; as above.
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
        sizes: the profile's values, each of which can be replaced.
    """

    profile: ProfileName = "smoke"
    model: Annotated[str | None, or_else("the profile's", "NAME")] = None
    data: Annotated[str | None, or_else("the profile's", "NAME")] = None
    augmented: Annotated[bool | None, or_else("the profile's", "{True,False}")] = None
    results: Path = Path("results")
    data_root: Annotated[Path | None, or_else("as said", "PATH")] = None
    device: str = "auto"
    executor: Executor = "local"
    workers: int = 2
    ray_address: Annotated[str | None, or_else("a new cluster", "HOST:PORT")] = None
    gpu_share: float = 1.0
    time_budget: Annotated[float | None, or_else("no limit", "MINUTES")] = None
    dry_run: bool = False
    sizes: Annotated[Profile, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff] = PROFILES[
        "smoke"
    ]

    def resolved_profile(self) -> Profile:
        """The profile with the overrides applied."""
        return narrowed(self.sizes, model=self.model, data=self.data, augmented=self.augmented)

    def place(self) -> Place:
        """Where the jobs run; the time budget begins now."""
        on_gpu = torch.cuda.is_available()
        budget = self.time_budget
        return Place(
            root=self.results,
            data_root=self.data_root,
            device=("cuda" if on_gpu else "cpu") if self.device == "auto" else self.device,
            profile=CUSTOM if is_changed(self.sizes) else self.profile,
            deadline=None if budget is None else time.time() + 60 * budget,
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 1 where a job failed, 2 for an error in what was asked for, 130 after Ctrl-C, 143
    after SIGTERM and 141 where nobody reads what is printed (`| head`). A spent time budget is no
    error.

    Args:
        args: the arguments; those that the process was started with by default.

    Example:
        >>> main(["exp1", "--dry-run"])  # doctest: +SKIP
    """
    try:
        with interruptible(), _all_printed():
            tyro.extras.subcommand_cli_from_dict(
                _subcommands(_defaults(args)),
                prog="python -m benchmarks",
                description=_DESCRIPTION,
                args=args,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except (BenchmarkError, TopDownError) as error:
        _tell(" ".join(str(error).split()))
        raise SystemExit(2) from None
    except Interrupted as interrupt:
        _tell(f"{interrupt}: stopped; the same command goes on from here")
        raise SystemExit(interrupt.exit_code) from None
    except BrokenPipeError:
        # the interpreter flushes once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


@contextmanager
def _all_printed() -> Iterator[None]:
    """What is printed in here is out at the end, so that a closed pipe is seen now."""
    try:
        yield
    finally:
        sys.stdout.flush()


def _defaults(args: Sequence[str] | None) -> Options:
    """The options where only the profile is given: what the help shows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile")
    name = parser.parse_known_args(args)[0].profile
    return Options(profile=name, sizes=PROFILES[name]) if name in PROFILES else Options()


def _subcommands(defaults: Options) -> dict[str, Callable[..., None]]:
    commands = {name: _subcommand(found, defaults) for name, found in EXPERIMENTS.items()}
    return {**commands, "claims": claims, "report": report}


def _subcommand(experiment: Experiment, defaults: Options) -> Callable[..., None]:
    def command(options: Annotated[Options, tyro.conf.arg(name="")] = defaults) -> None:
        run(experiment, options)

    command.__doc__ = experiment.summary
    return command


def claims(
    *,
    results: tuple[Path, ...] = (Path("results"),),
    markdown: Annotated[Path | None, or_else("no file", "PATH")] = None,
) -> None:
    """Each claim of the paper, its figure, ours with spread, and whether it holds.

    Args:
        results: results folders; their rows are taken together.
        markdown: also write the table to this file, for example docs/claims.md.
    """
    with progress("judging the claims"):
        rows = read_rows(results)
        judged = judge(rows)
    print(as_text(judged))
    if markdown:
        write_page(rows, judged, markdown)


def report(*, results: tuple[Path, ...] = (Path("results"),), out: Path = Path("report")) -> None:
    """One HTML page with all figures, tables and claims; figures also as PNG, tables as CSV.

    Args:
        results: results folders; their rows are taken together.
        out: folder of report.html, figures/ and tables/.
    """
    with progress("judging, drawing and writing the page"):
        page = write_report(results, out, SECTIONS)
    print(page)


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
