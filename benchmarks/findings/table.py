"""Numbers under headings: as text for the terminal, as CSV, and on the report's page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from td_transform.table import format_table

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Numbers under headings.

    Args:
        name: of its file.
        title: over it.
        columns: headings, with units.
        lines: as long as `columns` each; None where there is nothing.
        note: below it.

    Example:
        >>> print(Table("t", "Counts", ("network", "count"), (("NIN", 1200), ("other", None))).as_text())
        Counts
        network  count
        -------  -----
        NIN      1,200
        other
    """

    name: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Value, ...], ...]
    note: str = ""

    @staticmethod
    def of(
        name: str,
        title: str,
        columns: Sequence[str],
        lines: Sequence[tuple[Value, ...]],
        note: str = "",
    ) -> Table | None:
        """None without lines."""
        return Table(name, title, tuple(columns), tuple(lines), note) if lines else None

    def write_csv(self, path: Path) -> None:
        """With the headings in the first line."""
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.lines])

    def as_text(self) -> str:
        """For the terminal."""
        lines = [["" if value is None else shown(value) for value in line] for line in self.lines]
        text = [self.title, *format_table(list(self.columns), lines), self.note]
        return "\n".join(text).rstrip()


def shown(value: Value) -> str:
    """A cell of a table."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def value_of(value: object) -> Value:
    """A row's value; None where a table can't show it."""
    return value if isinstance(value, str | int | float) else None
