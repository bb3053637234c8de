"""What is shown of one kind of results, in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.findings.table import Table
from benchmarks.runs.jobs import Row


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and what is said about it.

    Args:
        name: of its files.
        title: as the paper counts it.
        caption: what is seen, on what it rests.
        figure: not bound to any window or backend.
    """

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table and drawings under a heading; pictures that rows name (`picture`) stand there too.

    Args:
        kind: of the rows that it shows.
        title: the heading.
        table: from rows, as `current` returns them, to the table; None without rows of the kind.
        drawings: the same for drawings.
        covered: the heading in the report's table of what was run; empty for what belongs to no
            data set.
        every_configuration: the table shows all configurations, each on its own lines: it gets rows
            as `measured` returns them.
    """

    kind: str
    title: str
    table: Callable[[Sequence[Row]], Table | None]
    drawings: tuple[Callable[[Sequence[Row]], Drawing | None], ...] = ()
    covered: str = ""
    every_configuration: bool = False
