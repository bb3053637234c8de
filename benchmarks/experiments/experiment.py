"""What an experiment is to the command line, the executors and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile
from benchmarks.runs.workspace import Workspace

Handler = Callable[[Job, Workspace], Iterable[Row]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One subcommand.

    Args:
        name: of the subcommand, and of the column `experiment` of its rows.
        summary: one line for the help text.
        jobs: what is to be run under a profile whose overrides are applied; jobs that these need
            (`Job.needs`) are run too and needn't be listed.
        handlers: per kind of job that belongs to this experiment, the function that does it. It
            returns rows with what was measured; `Workspace.row` adds the common columns.
        table: the paper's table or figure as text, from the rows of the listed jobs that are done.
    """

    name: str
    summary: str
    jobs: Callable[[Profile], Sequence[Job]]
    table: Callable[[Sequence[Row]], str]
    handlers: Mapping[str, Handler] = field(default_factory=dict)
