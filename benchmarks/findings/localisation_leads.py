"""TD's heatmaps against BU's on the same images: run by run, with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.findings.aggregate import Cell, group_of, select
from benchmarks.measures.localisation_pairs import NOTHING, Difference, paired
from benchmarks.runs.jobs import OWN_HEAT, Row


@dataclass(frozen=True)
class Lead:
    """A figure of TD less BU's.

    Args:
        value: the mean over runs, of shares.
        low, high: the ends of the interval; nan where there is none.
        over: what the interval is over: runs where there are several, else the images of the single
            run, which says nothing of how trainings differ.
        runs: how many.
    """

    value: float
    low: float
    high: float
    over: Literal["runs", "images"]
    runs: int

    @property
    def half_width(self) -> float:
        """Of the interval; nan where there is none."""
        return (self.high - self.low) / 2

    @property
    def points(self) -> str:
        """In percentage points.

        Example:
            >>> Lead(0.012, 0.01, 0.014, "runs", 4).points
            '+1.20 points, 95 % over 4 runs from +1.00 to +1.40'
        """
        value = f"{100 * self.value:+.2f} points"
        if math.isnan(self.low):
            return f"{value}, without an interval"
        what = f"{self.runs} runs" if self.over == "runs" else "the images of one run"
        return f"{value}, 95 % over {what} from {100 * self.low:+.2f} to {100 * self.high:+.2f}"


def leads(
    rows: Sequence[Row], value: str, *, scaling: str, heatmap: str = OWN_HEAT
) -> dict[Cell, Lead]:
    """Per cell TD's figure less BU's.

    Args:
        rows: of one kind, as `current` returns them.
        value: a column of shares.
        scaling: of the heatmaps.
        heatmap: which of TD's; BU's are its own.
    """
    one = _by_run(select(rows, arrangement="bu", heatmap=OWN_HEAT, scaling=scaling), value)
    other_rows = select(rows, arrangement="td", heatmap=heatmap, scaling=scaling)
    other = _by_run(other_rows, value)
    pairs: dict[Cell, list[tuple[float, float]]] = {}
    for (cell, run), figure in other.items():
        if (cell, run) in one:
            pairs.setdefault(cell, []).append((one[cell, run], figure))
    return {cell: _lead(found, cell, other_rows, value) for cell, found in pairs.items()}


def _lead(pairs: Sequence[tuple[float, float]], cell: Cell, rows: Sequence[Row], name: str) -> Lead:
    bottom_up, top_down = np.array(pairs).T
    if len(pairs) > 1:
        over_runs = paired(bottom_up, top_down)
        return Lead(over_runs.value, over_runs.low, over_runs.high, "runs", len(pairs))
    own = next(row for row in rows if group_of(row).cell == cell)
    found = _over_images(own, name)
    return Lead(float(top_down[0] - bottom_up[0]), found.low, found.high, "images", 1)


def _over_images(row: Row, name: str) -> Difference:
    measured: Any = row.get("less_bu") or {}
    return Difference(*measured[name]) if name in measured else NOTHING


def _by_run(rows: Sequence[Row], value: str) -> dict[tuple[Cell, object], float]:
    return {
        (group_of(row).cell, row.get("run")): float(number)
        for row in rows
        if isinstance(number := row.get(value), int | float)
    }
