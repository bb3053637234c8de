"""Each claim of the paper and what our rows say: for the terminal, in Markdown, and as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.files import replace_file
from benchmarks.findings.claims import NOTE
from benchmarks.findings.judgement import Judged
from benchmarks.findings.table import Table
from benchmarks.findings.verdicts import Verdict
from benchmarks.runs.jobs import Row
from td_transform.table import format_table

_WIDTHS = {"claim": 44, "paper": 34, "ours": 52, "verdict": 24}


def claims_table(judged: Sequence[Judged]) -> Table:
    """One line per claim."""
    columns = (
        "claim", "source", "paper", "ours", "verdict", "why a trend", "reason", "criterion",
        "authors",
    )  # fmt: skip
    lines = tuple(
        (
            one.claim.text, one.claim.source, one.claim.paper, one.verdict.ours, one.verdict.label,
            one.verdict.slice, one.verdict.reason, one.claim.criterion, one.authors,
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
    """A table with one line per claim, and below it each with its criterion and its numbers."""
    lines = ["| # | claim | source | the paper | ours | verdict |", "|" + " --- |" * 6]
    for number, one in enumerate(judged, start=1):
        numbers = f"[numbers](#claim-{number})"
        ours = f"{_sentence(one.verdict)} {numbers}"
        cells = [str(number), one.claim.text, one.claim.source, _papers(one), ours, _bold(one)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", NOTE]
    for number, one in enumerate(judged, start=1):
        lines += ["", f"### Claim {number}", "", *_details(one)]
    return "\n".join(lines) + "\n"


def _details(one: Judged) -> list[str]:
    lines = [one.claim.text, "", f"- Holds when: {one.claim.criterion}", f"- {one.authors}"]
    if one.verdict.slice:
        lines.append(f"- A trend only: {one.verdict.slice}.")
    if one.verdict.ours:
        lines.append(f"- Ours: {one.verdict.ours}")
    lines += [f"- {part}" for part in one.verdict.reason.split("; ") if part]
    return lines


def _papers(one: Judged) -> str:
    failed = one.claim.authors().holds is False
    return one.claim.paper + "; **the authors' own figures fail our criterion**" * failed


def _bold(one: Judged) -> str:
    reason = f" ({one.verdict.why_a_trend})" if one.verdict.slice else ""
    return f"**{one.verdict.label}**{reason}"


def _sentence(verdict: Verdict) -> str:
    return f"{verdict.ours or verdict.reason}."


def _origin(rows: Sequence[Row]) -> str:
    """What the page rests on, in a sentence or two."""
    if not rows:
        return "There are no results yet."

    def distinct(column: str) -> str:
        return ", ".join(sorted({str(row[column])[:40] for row in rows}))

    return (
        f"Written by `python -m benchmarks claims` from {len(rows)} results of the profile "
        f"{distinct('profile')} (commit {distinct('commit')}; {distinct('cpu')}; torch "
        f"{distinct('torch')})."
    )


def as_text(judged: Sequence[Judged]) -> str:
    """A table for the terminal, with the criteria below it."""
    rows: list[list[str]] = []
    for number, one in enumerate(judged, start=1):
        reason = f" ({one.verdict.why_a_trend})" if one.verdict.slice else ""
        wrapped = [
            textwrap.wrap(text, _WIDTHS[name])
            for name, text in (
                ("claim", f"{one.claim.text} ({one.claim.source})"),
                ("paper", one.claim.paper),
                ("ours", one.verdict.ours or one.verdict.reason),
                ("verdict", f"{one.verdict.label}{reason}"),
            )
        ]
        for line in range(max(map(len, wrapped))):
            cells = [part[line] if line < len(part) else "" for part in wrapped]
            rows.append([str(number) if line == 0 else "", *cells])
    criteria = [
        f"{i}. {one.claim.criterion} {one.authors}" for i, one in enumerate(judged, start=1)
    ]
    headings = ["#", "claim", "the paper", "ours", "verdict"]
    return "\n".join([*format_table(headings, rows), "", "Holds when:", *criteria, "", NOTE])
