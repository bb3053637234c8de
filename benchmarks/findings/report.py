"""One self-contained HTML page of a results folder, with every figure and table as a file beside it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from benchmarks.files import replace_file
from benchmarks.findings.aggregate import current, group_of, read_rows
from benchmarks.findings.claims import NOTE, Judged, judge, write_csv
from benchmarks.findings.curve_figures import curve_drawings
from benchmarks.findings.figures import Drawing, bar_drawings
from benchmarks.findings.tables import (
    MEASURED,
    Table,
    Value,
    coverage_table,
    failed_table,
    provenance_table,
)
from benchmarks.runs.jobs import Row

TITLE = "Top-down networks: the paper's experiments, re-run"
PAGE = "report.html"
_DPI = 150
# The paper's order: parameters, then the experiments; a section is its pictures and its table.
_SECTIONS = (
    ("table1_parameters", "Table 1: parameters", ()),
    ("fig4_accuracy", "Exp. 1: bottom-up versus top-down (Fig. 4)", ("fig4_accuracy",)),
    ("fig6_robustness", "Exp. 2: robustness (Fig. 6)", ("fig6_robustness",)),
    ("fig5_levels", "Exp. 2: perturbed levels (Fig. 5)", ("fig5_one_level", "fig5_two_levels")),
    ("strong_attacks", "Beyond the paper: strong attacks", ("strong_attacks",)),
    ("corruptions", "Beyond the paper: common corruptions", ("corruptions",)),
    ("gradcam", "Exp. 3: Grad-CAM (Fig. 7 and 8)", ("gradcam",)),
    ("fig9_localisation", "Exp. 3: localisation (Fig. 9)", ("fig9_localisation",)),
)  # fmt: skip


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
class Section:
    """A heading with its pictures and its table."""

    anchor: str
    title: str
    pictures: tuple[Picture, ...]
    table: Table | None


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write `report.html`, `figures/*.png` and `tables/*.csv`.

    Args:
        folders: results folders; their rows are taken together.
        out: where to write; made where it is missing.

    Returns:
        The page, which needs no other file and no network.

    Raises:
        BenchmarkError: a folder holds no results.
    """
    everything = read_rows(folders)
    rows, judged = current(everything), judge(everything)
    for name in ("figures", "tables"):
        (out / name).mkdir(parents=True, exist_ok=True)
    pictures: dict[str, tuple[Picture, ...]] = {
        drawing.name: (_drawn(drawing, out / "figures"),)
        for drawing in (*bar_drawings(rows), *curve_drawings(rows))
    }
    pictures["gradcam"], missing = _explained(rows, folders, out / "figures")
    tables = {table.name: table for make in MEASURED if (table := make(rows))}
    sections = [
        Section(
            name,
            title,
            tuple(p for part in parts for p in pictures.get(part, ())),
            tables.get(name),
        )
        for name, title, parts in _SECTIONS
    ]
    rest = (provenance_table(rows), coverage_table(rows), failed_table(everything))
    for table in (*tables.values(), *rest):
        if table:
            table.write_csv(out / "tables" / f"{table.name}.csv")
    write_csv(judged, out / "tables" / "claims.csv")
    page = _template().render(
        title=TITLE,
        summary=_summary(rows),
        counts=_counts(judged),
        judged=judged,
        note=NOTE,
        sections=[section for section in sections if section.pictures or section.table],
        provenance=rest[0],
        coverage=rest[1],
        failures=rest[2],
        not_run=[one for one in judged if one.verdict.label == "not run"],
        missing_pictures=missing,
    )
    replace_file(out / PAGE, page.encode())
    return out / PAGE


# Pictures


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


def _explained(
    rows: Sequence[Row], folders: Sequence[Path], out: Path
) -> tuple[tuple[Picture, ...], list[str]]:
    """The heatmaps as their experiment drew them, and those that have gone."""
    pictures, missing = [], []
    for row in rows:
        if row["kind"] != "gradcam":
            continue
        inside = Path("runs", str(row["job"]), str(row["picture"]))
        found = next((folder / inside for folder in folders if (folder / inside).exists()), None)
        if found is None:
            missing.append(str(inside))
            continue
        what = f"Grad-CAM, {row['layer']}: {group_of(row).cell.title}"
        file = f"gradcam_{row['job']}_{found.name}"
        content = found.read_bytes()
        (out / file).write_bytes(content)
        caption = f"{what}, run {row['run']}."
        pictures.append(Picture(what, caption, _data_uri("image/png", content), file))
    return tuple(pictures), missing


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
    environment.filters["shown"] = _shown
    environment.filters["listed"] = _listed
    return environment.get_template("report.html.j2")


def _shown(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    labels = ("holds", "does not hold", "undecided", "not run")
    return {label: found[label] for label in labels}
