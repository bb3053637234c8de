"""Each claim of the paper and whether it holds: for the terminal, in Markdown, and as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.files import replace_file
from benchmarks.findings.claims import NOTE, Judged
from benchmarks.findings.table import Table
from benchmarks.runs.jobs import Row
from td_transform.table import format_table

_WIDTHS = {"claim": 44, "paper": 34, "ours": 52}


def claims_table(judged: Sequence[Judged]) -> Table:
    """One line per claim."""
    columns = ("claim", "source", "paper", "ours", "verdict", "reason", "criterion")
    lines = tuple(
        (
            one.claim.text, one.claim.source, one.claim.paper, one.verdict.ours, one.verdict.label,
            one.verdict.reason, one.claim.criterion,
        )
        for one in judged
    )  # fmt: skip
    return Table("claims", "The paper's claims", columns, lines)


def write_page(rows: Sequence[Row], judged: Sequence[Judged], path: Path) -> None:
    """The claims as a page in Markdown, with what the verdicts rest on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = f"# The paper's claims, judged\n\n{_origin(rows)}\n\n{as_markdown(judged)}"
    replace_file(path, page.encode())


def as_markdown(judged: Sequence[Judged]) -> str:
    """A table with one line per claim, and the criteria below it."""
    lines = ["| # | claim | source | the paper | ours | verdict |", "|" + " --- |" * 6]
    for number, (claim, verdict) in enumerate(((j.claim, j.verdict) for j in judged), start=1):
        ours = f"{verdict.ours}. {verdict.reason}" if verdict.ours else verdict.reason
        cells = [str(number), claim.text, claim.source, claim.paper, ours, f"**{verdict.label}**"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "A claim holds when:", ""]
    lines += [f"{i}. {j.claim.criterion}" for i, j in enumerate(judged, start=1)]
    return "\n".join([*lines, "", NOTE]) + "\n"


def _origin(rows: Sequence[Row]) -> str:
    """What the verdicts rest on, in a sentence or two."""
    if not rows:
        return "There are no results yet."

    def distinct(column: str) -> str:
        return ", ".join(sorted({str(row[column])[:40] for row in rows}))

    return (
        f"Written by `python -m benchmarks claims` from {len(rows)} results of the profile "
        f"{distinct('profile')} (commit {distinct('commit')}; {distinct('cpu')}; torch "
        f"{distinct('torch')}). The profiles `smoke` and `cpu` train briefly on few images: their "
        "verdicts are about such networks, not about the paper's."
    )


def as_text(judged: Sequence[Judged]) -> str:
    """A table for the terminal, with the criteria below it."""
    rows: list[list[str]] = []
    for number, one in enumerate(judged, start=1):
        wrapped = [
            textwrap.wrap(text, _WIDTHS[name])
            for name, text in (
                ("claim", f"{one.claim.text} ({one.claim.source})"),
                ("paper", one.claim.paper),
                ("ours", one.verdict.ours or one.verdict.reason),
            )
        ]
        for line in range(max(map(len, wrapped))):
            cells = [part[line] if line < len(part) else "" for part in wrapped]
            first = (str(number), one.verdict.label) if line == 0 else ("", "")
            rows.append([first[0], cells[0], cells[1], cells[2], first[1]])
    criteria = [f"{i}. {one.claim.criterion}" for i, one in enumerate(judged, start=1)]
    headings = ["#", "claim", "the paper", "ours", "verdict"]
    return "\n".join([*format_table(headings, rows), "", "Holds when:", *criteria, "", NOTE])
