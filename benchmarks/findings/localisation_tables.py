"""Tables of what heatmaps are worth: against objects, and where no object is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.findings.aggregate import Cell, Spread, group_of, select
from benchmarks.findings.localisation_leads import Lead, leads
from benchmarks.findings.table import Table, Value
from benchmarks.measures.explain_faithfulness import FAITHFULNESS
from benchmarks.measures.localisation import FIGURES
from benchmarks.runs.jobs import EVEN_HEAT, OWN_HEAT, POOLED_HEAT, Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES

_INTERVALS = (
    "± is the standard deviation over runs; in a line of differences it is half of the 95 % "
    "interval, over runs where there are several, else over the images of the single run."
)
_LOCALISATION_NOTE = (
    "Images that both networks get right. All ones: a mask of the whole image, the chance line. "
    "Precision, recall and IoU hang on the threshold of the heatmaps, the others do not (but the "
    "authors' scaling, centred, cuts off what lies below a heatmap's mean); the box's threshold "
    f"is chosen on a fifth of the images and used on the others. {_INTERVALS}"
)
_FAITHFULNESS_NOTE = (
    "The measures here need no boxes or masks. Imagenette has none, so that precision, recall, IoU, "
    "PxAP, the share of heat inside the object, the pointing game and boxes cannot be told for it: "
    "average drop and deletion (small is good), increase and insertion (large is good), of the "
    "class's softmax; the marked share says how wide the heatmap spreads. A network's figures are "
    f"to be compared with its own chance line (all ones). {_INTERVALS}"
)


def localisation_table(rows: Sequence[Row]) -> Table | None:
    """The numbers of Fig. 9 and those that hang on no threshold; None without rows."""
    return _table(
        select(rows, kind="localisation"), FIGURES,
        "fig9_localisation", "Grad-CAM heatmaps against objects", _LOCALISATION_NOTE,
    )  # fmt: skip


def faithfulness_table(rows: Sequence[Row]) -> Table | None:
    """Heatmaps without objects; None without rows."""
    return _table(
        select(rows, kind="faithfulness"), FAITHFULNESS,
        "faithfulness", "Grad-CAM heatmaps without objects", _FAITHFULNESS_NOTE,
    )  # fmt: skip


def _table(
    rows: Sequence[Row], figures: Sequence[str], name: str, title: str, note: str
) -> Table | None:
    lines: list[tuple[Value, ...]] = []
    for cell in dict.fromkeys(group_of(row).cell for row in rows):
        own = [row for row in rows if group_of(row).cell == cell]
        scalings = [s for s in dict.fromkeys(row.get("scaling") for row in own) if s]
        for scaling in map(str, scalings):
            scaled = select(own, scaling=scaling)
            for heatmap in (OWN_HEAT, POOLED_HEAT):
                lines += _network_lines(cell, select(scaled, heatmap=heatmap), figures, heatmap)
            for heatmap in (OWN_HEAT, POOLED_HEAT):
                lines += _lead_line(cell, own, figures, scaling=scaling, heatmap=heatmap)
        lines += _network_lines(cell, select(own, heatmap=EVEN_HEAT), figures, EVEN_HEAT)
    columns = [f"{figure}{unit}" for figure in figures for unit in (" (%)", " ± (points)")]
    return Table.of(
        name, title, ["network", "data", "heatmap", "scaling", *columns, "runs"], lines, note
    )


def _network_lines(
    cell: Cell, rows: Sequence[Row], figures: Sequence[str], heatmap: str
) -> list[tuple[Value, ...]]:
    lines: list[tuple[Value, ...]] = []
    for arrangement in dict.fromkeys(row["arrangement"] for row in rows):
        own = select(rows, arrangement=arrangement)
        spreads = [_spread(own, figure) for figure in figures]
        runs = len({row.get("run") for row in own})
        title = _title(arrangement, heatmap)
        values = [value for spread in spreads for value in _percent(spread)]
        lines.append((*cell.names, title, str(own[0].get("scaling") or ""), *values, runs))
    return lines


def _lead_line(
    cell: Cell, rows: Sequence[Row], figures: Sequence[str], *, scaling: str, heatmap: str
) -> list[tuple[Value, ...]]:
    found = [leads(rows, figure, scaling=scaling, heatmap=heatmap).get(cell) for figure in figures]
    runs = max((lead.runs for lead in found if lead), default=0)
    if not runs:
        return []
    values = [value for lead in found for value in _points(lead)]
    return [(*cell.names, f"{_title('td', heatmap)} − BU", scaling, *values, runs)]


def _title(arrangement: object, heatmap: str) -> str:
    name = "" if arrangement is None else ARRANGEMENT_TITLES[str(arrangement)]
    return " ".join(part for part in (name, "" if heatmap == OWN_HEAT else heatmap) if part)


def _spread(rows: Sequence[Row], figure: str) -> Spread | None:
    numbers = [number for row in rows if isinstance(number := row.get(figure), int | float)]
    return Spread.of(numbers) if numbers else None


def _percent(spread: Spread | None) -> tuple[float | None, float | None]:
    return _rounded(spread.mean, spread.deviation) if spread else (None, None)


def _points(lead: Lead | None) -> tuple[float | None, float | None]:
    return _rounded(lead.value, lead.half_width) if lead else (None, None)


def _rounded(value: float, spread: float) -> tuple[float, float | None]:
    return round(100 * value, 2), None if math.isnan(spread) else round(100 * spread, 2)
