"""One self-contained HTML page of a results folder, with every figure and table as a file beside it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from benchmarks.files import replace_file
from benchmarks.findings.aggregate import current, group_of, measured, read_rows
from benchmarks.findings.claims import NOTE, judge
from benchmarks.findings.claims_page import claims_table
from benchmarks.findings.coverage import coverage_table, failed_table, provenance_table
from benchmarks.findings.judgement import Judged
from benchmarks.findings.section import Drawing, Section
from benchmarks.findings.table import Table, shown
from benchmarks.findings.verdicts import LABELS
from benchmarks.runs.jobs import Row

TITLE = "Top-down networks: the paper's experiments, re-run"
PAGE = "report.html"
_DPI = 150


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Args:
        title: what a screen reader says.
        caption: the text below it.
        source: the whole image as a data URI.
        file: its name in `figures/`.
    """

    title: str
    caption: str
    source: str
    file: str


@dataclass(frozen=True)
class Part:
    """A section of the page: a heading with its pictures and its table."""

    anchor: str
    title: str
    pictures: tuple[Picture, ...]
    table: Table | None


def write_report(folders: Sequence[Path], out: Path, sections: Sequence[Section]) -> Path:
    """Write `report.html`, `figures/*.png` and `tables/*.csv`.

    Args:
        folders: results folders; their rows are taken together.
        out: where to write; made where it is missing.
        sections: what is shown, in this order, where there are rows.

    Returns:
        The page, which needs no other file and no network.

    Raises:
        BenchmarkError: a folder holds no results.
    """
    everything = read_rows(folders)
    rows, judged = current(everything), judge(everything)
    all_configurations = measured(everything)
    for name in ("figures", "tables"):
        (out / name).mkdir(parents=True, exist_ok=True)
    parts = [_part(section, rows, all_configurations, out / "figures") for section in sections]
    kept, missing = _kept(rows, folders, out / "figures")
    parts = [replace(p, pictures=p.pictures + kept.get(p.anchor, ())) for p in parts]
    rest = (provenance_table(rows), coverage_table(rows, sections), failed_table(everything))
    for table in (*(part.table for part in parts), *rest, claims_table(judged)):
        if table:
            table.write_csv(out / "tables" / f"{table.name}.csv")
    shown_parts = [part for part in parts if part.pictures or part.table]
    page = _template().render(
        title=TITLE,
        summary=_summary(rows),
        counts=_counts(judged),
        judged=judged,
        note=NOTE,
        sections=shown_parts,
        shown_kinds={part.anchor for part in shown_parts},
        provenance=rest[0],
        coverage=rest[1],
        failures=rest[2],
        not_run=[one for one in judged if one.verdict.label == "not run"],
        missing_pictures=missing,
    )
    replace_file(out / PAGE, page.encode())
    return out / PAGE


# Pictures


def _part(
    section: Section, rows: Sequence[Row], all_configurations: Sequence[Row], folder: Path
) -> Part:
    drawings = [drawing for draw in section.drawings if (drawing := draw(rows))]
    pictures = tuple(_drawn(drawing, folder) for drawing in drawings)
    table = section.table(all_configurations if section.every_configuration else rows)
    return Part(section.kind, section.title, pictures, table)


def _drawn(drawing: Drawing, folder: Path) -> Picture:
    file = f"{drawing.name}.png"
    drawing.figure.savefig(folder / file, dpi=_DPI)
    drawing.figure.set_layout_engine("none")  # it is laid out; finding the places takes its time
    return Picture(
        drawing.title, f"{drawing.title}. {drawing.caption}", _as_svg(drawing.figure), file
    )


def _as_svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    # the same figure gives the same bytes, so that reports can be compared
    with matplotlib.rc_context({"svg.hashsalt": "td_transform"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", buffer.getvalue())


def _kept(
    rows: Sequence[Row], folders: Sequence[Path], out: Path
) -> tuple[dict[str, tuple[Picture, ...]], list[str]]:
    """The pictures that jobs drew, per kind, and those that have gone."""
    pictures: dict[str, tuple[Picture, ...]] = {}
    missing = []
    for row in rows:
        if not row.get("picture"):
            continue
        kind, inside = str(row["kind"]), Path("runs", str(row["job"]), str(row["picture"]))
        found = next((folder / inside for folder in folders if (folder / inside).exists()), None)
        if found is None:
            missing.append(str(inside))
            continue
        what = f"{row['experiment']}, {row.get('layer', kind)}: {group_of(row).cell.title}"
        file = f"{kind}_{row['job']}_{found.name}"
        content = found.read_bytes()
        (out / file).write_bytes(content)
        caption = f"{what}, run {row['run']}."
        picture = Picture(what, caption, _data_uri("image/png", content), file)
        pictures[kind] = (*pictures.get(kind, ()), picture)
    return pictures, missing


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# Text


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["listed"] = _listed
    return environment.get_template("report.html.j2")


def _listed(text: str) -> Markup:
    """A line per part."""
    return Markup("<br>").join(escape(part) for part in text.split("; "))


def _summary(rows: Sequence[Row]) -> str:
    if not rows:
        return "There are no results yet."
    dates = sorted(str(row.get("finished", ""))[:10] for row in rows)
    profiles = ", ".join(sorted({str(row["profile"]) for row in rows}))
    trainings = {row["job"] for row in rows if row["kind"] == "train"}
    return (
        f"{len(trainings)} trained networks, {len(rows)} results, profile {profiles}, "
        f"{dates[0]} to {dates[-1]}."
    )


def _counts(judged: Sequence[Judged]) -> dict[str, int]:
    found = Counter(one.verdict.label for one in judged)
    return {label: found[label] for label in LABELS}
