"""What an experiment is to the command line, the executors and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.findings.section import Section
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile
from benchmarks.runs.workspace import Workspace

Handler = Callable[[Job, Workspace], Iterable[Row]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One subcommand: `EXPERIMENT` of a module of this package.

    Args:
        name: of the subcommand, and of the column `experiment` of its rows.
        summary: one line for the help text.
        source: the paper's section, after which experiments are ordered.
        jobs: what is to be run under a profile whose overrides are applied; jobs that these need
            (`Job.needs`) are run too and needn't be listed.
        handlers: per kind of job that belongs to this experiment, the function that does it. It
            returns rows with what was measured; `Workspace.row` adds the common columns.
        sections: the tables and figures of its rows, in the terminal and in the report.
    """

    name: str
    summary: str
    source: str
    jobs: Callable[[Profile], Sequence[Job]]
    handlers: Mapping[str, Handler]
    sections: tuple[Section, ...]

    def table(self, rows: Sequence[Row]) -> str:
        """Every section's table, for the terminal.

        Args:
            rows: of the experiment's jobs that are done.
        """
        found = (section.table(rows) for section in self.sections)
        return "\n\n".join(table.as_text() for table in found if table)
