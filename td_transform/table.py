"""Tables of text: what is printed, and what a page is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells under a header; prints with its columns padded to their widest cell.

    Args:
        header: a text per column.
        rows: as many cells each.

    Example:
        >>> print(Table(["layer", "channels"], [["conv1", "64"]]))
        layer  channels
        -----  --------
        conv1        64
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """As plain text, a line of dashes below the header; numbers to the right."""
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        right = [all(c[:1].isdigit() or not c for c in column[1:]) for column in columns]

        def line(cells: Sequence[str]) -> str:
            padded = (
                c.rjust(w) if r else c.ljust(w)
                for c, w, r in zip(cells, widths, right, strict=True)
            )
            return "  ".join(padded).rstrip()

        return [line(self.header), "  ".join("-" * w for w in widths), *map(line, self.rows)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return Table(header, rows).lines()
