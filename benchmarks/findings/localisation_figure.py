"""Localisation as bar charts (paper, Fig. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.findings.aggregate import Cell, Spread, by_cell, group_of, select
from benchmarks.findings.figures import (
    COLOURS,
    INK,
    grouped_bars,
    runs_of,
    series_of,
    shared_legend,
    write_values,
)
from benchmarks.findings.section import Drawing
from benchmarks.measures.localisation import FIGURES
from benchmarks.runs.jobs import EVEN_HEAT, OWN_HEAT, Row

_TITLES = {"iou": "IoU", "pxap": "PxAP", "inside": "heat inside", "pointing": "pointing game"}
_IN_A_ROW = 4
# of the authors
_SCALING = "centred"


def localisation_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Every figure of Grad-CAM heatmaps against objects, with the chance line; None without rows."""
    every = select(rows, kind="localisation")
    own = select(every, heatmap=OWN_HEAT, scaling=_SCALING)
    found = {name: group for name in FIGURES if (group := by_cell(own, name))}
    if not found:
        return None
    cells = list(dict.fromkeys(cell for group in found.values() for cell in group))
    columns = min(_IN_A_ROW, len(found))
    lines = ceil(len(found) / columns)
    size = (max(2.6, 0.9 * len(cells)) * columns, 3.6 * lines + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, (name, values) in zip(grid, found.items(), strict=False):
        _panel(panel, name, values, _chance(every, name, cells), cells)
    for panel in grid[len(found) :]:
        panel.set_axis_off()
    shared_legend(figure, grid[: len(found)])
    thresholds = sorted({str(row.get("threshold")) for row in own})
    caption = (
        "Grad-CAM heatmaps of the last map against the thresholded objects "
        f"(t = {', '.join(thresholds)}), on images that both networks get right, with the authors' "
        f"scaling. {runs_of(*found.values())}. The line is a mask of the whole image: chance. The "
        "paper shows precision and recall; these and IoU hang on the threshold, the others do not."
    )
    return Drawing("fig9_localisation", "Fig. 9: localisation", caption, figure)


def _panel(
    panel: Axes,
    name: str,
    values: dict[Cell, dict[str, Spread]],
    chance: dict[Cell, Spread],
    cells: Sequence[Cell],
) -> None:
    series = [
        series_of(
            arrangement.upper(), COLOURS[arrangement], hatch,
            [values.get(cell, {}).get(arrangement) for cell in cells],
        )
        for arrangement, hatch in (("bu", ""), ("td", "///"))
    ]  # fmt: skip
    grouped_bars(panel, [cell.title.replace(", ", "\n") for cell in cells], series)
    for place, cell in enumerate(cells):
        if cell in chance:
            panel.hlines(
                100 * chance[cell].mean, place - 0.45, place + 0.45,
                colors=INK, linestyles="dashed", label="all ones",
            )  # fmt: skip
    if len(cells) > 2:
        panel.tick_params(axis="x", labelsize=8)
        for label in panel.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    panel.set(title=_TITLES.get(name, name), ylim=(0, 112), ylabel="share (%)")
    write_values(panel, series)


def _chance(rows: Sequence[Row], name: str, cells: Sequence[Cell]) -> dict[Cell, Spread]:
    even = select(rows, heatmap=EVEN_HEAT)
    numbers = {
        cell: [
            float(number)
            for row in even
            if group_of(row).cell == cell and isinstance(number := row.get(name), int | float)
        ]
        for cell in cells
    }
    return {cell: Spread.of(found) for cell, found in numbers.items() if found}
