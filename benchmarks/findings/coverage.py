"""What the numbers rest on: hardware and versions, what was run, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.findings.aggregate import failed, group_of, select
from benchmarks.findings.configurations import reasons
from benchmarks.findings.published import PAPER_CELLS
from benchmarks.findings.section import Section
from benchmarks.findings.table import Table, Value, value_of
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES, ARRANGEMENTS

STAMP = (
    "profile", "departures", "device", "cpu", "cores", "threads", "torch", "cuda", "python", "td_transform",
    "commit", "seed",
)  # fmt: skip


def provenance_table(rows: Sequence[Row]) -> Table | None:
    """Hardware, versions, commits and seeds, with how much was measured there."""
    found: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        stamp = {**row, "departures": reasons([row]) or "none"}
        found.setdefault(tuple(value_of(stamp.get(name)) for name in STAMP), []).append(row)
    lines = [
        (*stamp, len(own), len({row.get("job") for row in own}), min(_dates(own)), max(_dates(own)))
        for stamp, own in found.items()
    ]
    columns = [*STAMP, "rows", "jobs", "first", "last"]
    return Table.of("provenance", "Hardware, versions, commits, seeds", columns, lines)


def coverage_table(rows: Sequence[Row], sections: Sequence[Section]) -> Table:
    """Per cell what was run, under which profile and how often; None where it was not."""
    cells = list(dict.fromkeys((*PAPER_CELLS, *(
        group_of(row).cell for row in rows if row["kind"] != "parameters"
    ))))  # fmt: skip
    covered = [section for section in sections if section.covered]
    lines: list[tuple[Value, ...]] = []
    for cell in cells:
        own = [row for row in rows if row["kind"] != "parameters" and group_of(row).cell == cell]
        lines.append((*cell.names, *(_covered(select(own, kind=s.kind)) for s in covered)))
    headings = ("network", "data", *(section.covered for section in covered))
    return Table("coverage", "What was run", headings, tuple(lines))


def failed_table(rows: Sequence[Row]) -> Table | None:
    """Jobs that ended without a result; None where all went well."""
    lines = [
        (str(row.get("job")), str(row.get("kind")), *map(value_of, (
            row.get("model"), row.get("arrangement"), row.get("data"), row.get("run"),
            row.get("message"))))
        for row in failed(rows)
    ]  # fmt: skip
    columns = ["job", "kind", "network", "arrangement", "data", "run", "error"]
    return Table.of("failed", "Failed jobs", columns, lines)


def _covered(rows: Sequence[Row]) -> str | None:
    if not rows:
        return None
    profiles = "/".join(sorted({str(row["profile"]) for row in rows}))
    runs = len({row.get("run") for row in rows})
    names = [ARRANGEMENT_TITLES[a] for a in ARRANGEMENTS if select(rows, arrangement=a)]
    return f"{profiles}: {', '.join(names)}; {runs} run{'s' * (runs > 1)}"


def _dates(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(row.get("finished", ""))[:10] for row in rows]
