"""Table and figure of localisation, from constructed rows."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer

from benchmarks.findings.localisation_figure import localisation_drawing
from benchmarks.findings.localisation_tables import localisation_table
from benchmarks.runs.jobs import EVEN_HEAT, POOLED_HEAT, Row
from tests.benchmarks.synthetic_rows import heat_row

BU, TD, POOLED = (0.30, 0.50), (0.52, 0.70), (0.40, 0.52)


def rows(runs: int) -> list[Row]:
    found = []
    for run in range(runs):
        lead = {"precision": [0.22, 0.20, 0.24]}
        found += [
            heat_row("bu", run=run, precision=BU[run], recall=0.5),
            heat_row("td", run=run, precision=TD[run], recall=0.5, less_bu=lead),
            heat_row("td", run=run, precision=POOLED[run], heatmap=POOLED_HEAT),
            heat_row("td", run=run, precision=0.9, scaling="min-max"),
            heat_row(None, run=run, precision=0.25, heatmap=EVEN_HEAT, scaling=None),
        ]
    return found


def test_networks_the_control_differences_and_the_chance_line() -> None:
    table = localisation_table(rows(2))
    assert table is not None
    lines = {line[2:4]: line[4:6] for line in table.lines}
    assert lines[("BU", "centred")] == (40, pytest.approx(14.14))
    assert lines[("TD", "centred")] == (61, pytest.approx(12.73))
    assert lines[(f"TD {POOLED_HEAT}", "centred")] == (46, pytest.approx(8.49))
    assert lines[("TD", "min-max")][0] == 90
    assert lines[("all ones", "")] == (25, 0)
    # 12.706 is the 97.5 % quantile of t with one degree of freedom; differences 0.22 and 0.20
    half = 12.706 * np.std([22, 20], ddof=1) / np.sqrt(2)
    assert lines[("TD − BU", "centred")] == (21, pytest.approx(half, abs=0.01))
    assert len(table.lines) == 7
    assert {line[-1] for line in table.lines} == {2}


def test_a_single_run_has_the_interval_over_its_images() -> None:
    table = localisation_table(rows(1))
    assert table is not None
    lines = {line[2:4]: line[4:6] for line in table.lines}
    assert lines[("TD − BU", "centred")] == (22, pytest.approx(2))
    assert lines[("BU", "centred")] == (30, None)


def test_the_figure_shows_the_authors_scaling_and_chance() -> None:
    drawing = localisation_drawing(rows(2))
    assert drawing is not None
    panels = [panel for panel in drawing.figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["precision", "recall"]
    bars = {
        container.get_label(): [bar.get_height() for bar in container]
        for container in panels[0].containers
        if isinstance(container, BarContainer)
    }
    assert bars == {"BU": [pytest.approx(40)], "TD": [pytest.approx(61)]}
    (chance,) = [c for c in panels[0].collections if c.get_label() == "all ones"]
    assert isinstance(chance, LineCollection)
    assert [point[1] for point in np.asarray(chance.get_segments()[0])] == [25, 25]
