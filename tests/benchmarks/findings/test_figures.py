"""What the figures show is what the rows say."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import BarContainer, ErrorbarContainer

from benchmarks.experiments import SECTIONS
from benchmarks.findings.aggregate import Cell, current
from benchmarks.findings.curve_figures import (
    corruptions_drawing,
    robustness_drawing,
    strong_drawing,
)
from benchmarks.findings.figures import (
    COLOURS,
    accuracy_drawing,
    one_level_drawing,
    two_levels_drawing,
)
from benchmarks.findings.published import published_scales
from benchmarks.findings.section import Drawing
from benchmarks.measures.curves import Floats
from benchmarks.runs.jobs import Row
from tests.benchmarks.synthetic_rows import accuracies, everything, l2_row, row


def panels(drawing: Drawing | None) -> list[Axes]:
    assert drawing is not None
    return list(drawing.figure.axes)


def bars(panel: Axes) -> dict[str, list[float]]:
    found = (c for c in panel.containers if isinstance(c, BarContainer))
    return {str(c.get_label()): [patch.get_height() for patch in c] for c in found}


def drawn(rows: Sequence[Row]) -> list[Drawing]:
    """All that the experiments' sections draw."""
    return [found for s in SECTIONS for draw in s.drawings if (found := draw(rows))]


def test_without_rows_there_is_nothing_to_draw() -> None:
    assert drawn([]) == []
    assert [section.table([]) for section in SECTIONS] == [None] * len(SECTIONS)


def test_every_figure_is_drawn() -> None:
    rows = current(everything(attacks=("PointwiseAttack",), images=10))
    drawings = drawn(rows)
    assert [drawing.name for drawing in drawings] == [
        "fig4_accuracy", "fig6_robustness", "strong_attacks", "corruptions", "fig5_one_level",
        "fig5_two_levels", "fig9_localisation",
    ]  # fmt: skip
    for drawing in drawings:
        assert len(drawing.caption) > 30
        labels = [panel.get_ylabel() for panel in drawing.figure.axes]
        assert any("%" in label or "points" in label for label in labels)


def test_accuracies_with_their_deviations() -> None:
    rows = [
        *accuracies("bu", (0.97, 0.99)),
        *accuracies("td", (0.96, 0.98)),
        *accuracies("td", (0.9,), model="lenet-fc"),
        *accuracies("bu", (0.8,), data="cifar10", augmented=True),
    ]
    drawing = accuracy_drawing(rows)
    mnist, cifar = panels(drawing)
    assert (mnist.get_title(), cifar.get_title()) == ("MNIST", "CIFAR10_aug")
    assert [text.get_text() for text in mnist.get_xticklabels()] == ["NIN-light", "LeNetFC"]
    # LeNetFC's BU was not run: a gap
    assert bars(mnist) == {
        "BU": [pytest.approx(98), pytest.approx(float("nan"), nan_ok=True)],
        "TD": [pytest.approx(97), pytest.approx(90)],
    }
    error = next(c for c in mnist.containers if isinstance(c, ErrorbarContainer))
    (low, high) = error.lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * 100 * 0.02 / 2**0.5)
    assert drawing is not None
    assert "over 1 to 2 runs" in drawing.caption
    assert mnist.get_ylim()[0] < 90
    assert mnist.get_ylim()[1] > 98 + 1.5


def test_perturbed_levels() -> None:
    levels = {"high": 0.9, "medium": 0.8, "low": 0.7, "high-medium": 0.6}
    rows = [
        row("scales", attack="PointwiseAttack", perturbed=level, accuracy=accuracy, images=50,
            clean_accuracy=0.95)
        for level, accuracy in levels.items()
    ]  # fmt: skip
    (one,), (two,) = panels(one_level_drawing(rows)), panels(two_levels_drawing(rows))
    assert bars(one) == {
        level: [pytest.approx(100 * levels[level])] for level in ("high", "medium", "low")
    }
    assert bars(two) == {"high and medium": [pytest.approx(60)]}
    dashed = next(line for line in one.lines if line.get_linestyle() == "--")
    assert list(dashed.get_ydata()) == [pytest.approx(95)] * 2
    authors = published_scales(Cell("nin-light", "mnist", False), "PointwiseAttack")
    shown = [float(y) for points in one.collections for _, y in points.get_offsets()]
    assert [y for y in shown if y == y] == [
        pytest.approx(100 * authors[level]) for level in ("high", "medium", "low")
    ]


def test_levels_of_deeper_networks_keep_their_names() -> None:
    rows = [
        row("scales", attack="PointwiseAttack", perturbed=level, accuracy=0.5, images=50,
            clean_accuracy=0.95, model="timm:resnet26")
        for level in ("level0", "level1", "level2", "level3", "level0-level3")
    ]  # fmt: skip
    assert list(bars(panels(one_level_drawing(rows))[0])) == [
        "level0",
        "level1",
        "level2",
        "level3",
    ]
    assert list(bars(panels(two_levels_drawing(rows))[0])) == ["level0-level3"]


def test_robustness_is_a_grid_of_attacks_and_data_sets() -> None:
    rows = [
        l2_row("bu", [1.0, 2.0, -1, None]),
        l2_row("td", [2.0, 3.0, None, None]),
        l2_row("bu", [1.0], attack="ShiftsAttack", data="fashion-mnist"),
    ]
    drawing = robustness_drawing(rows)
    grid = panels(drawing)
    assert [panel.get_title() for panel in grid[:2]] == ["MNIST", "Fashion-MNIST"]
    assert [grid[i].get_ylabel().splitlines()[0] for i in (0, 2)] == ["Pointwise", "Shifts"]
    assert [text.get_text() for i in (1, 2) for text in grid[i].texts] == ["not run", "not run"]
    assert grid[2].get_xlabel() == "L2 norm"
    bu, td = grid[0].lines
    assert to_hex(bu.get_color()) == COLOURS["bu"].lower()
    assert to_hex(td.get_color()) == COLOURS["td"].lower()
    assert list(zip(bu.get_xdata(), bu.get_ydata(), strict=True)) == [(0, 0), (1, 25), (2, 50)]
    # the authors' NIN-light under Pointwise at 10, 25, 50 and 75 points
    markers = grid[0].collections[0].get_offsets().tolist()
    assert markers == [[2.378, 10], [3.024, 25], [3.798, 50], [4.829, 75]]


def test_several_runs_are_one_thick_line_and_thin_ones() -> None:
    rows = [l2_row("td", [1.0, 3.0]), l2_row("td", [2.0, 4.0], run=1)]
    lines = panels(robustness_drawing(rows))[0].lines
    assert len(lines) == 3
    assert list(lines[2].get_ydata()) == [0, 25, 50, 75, 100]


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    (line,) = panels(robustness_drawing([l2_row("td", list(range(1, 2001)))]))[0].lines
    x, y = line.get_xdata(), line.get_ydata()
    assert len(x) == 300
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 2000, 100)


def test_strong_attacks_by_size() -> None:
    rows = [
        row("strong", attack="PGD", norm="linf", epsilon=e, robust_accuracy=1 - 5 * e, images=9)
        for e in (0.2, 0.1)
    ]
    rows.append(
        row("strong", attack="DeepFool", norm="l2", l2=[-1, 1.0, None, 2.0], robust_accuracy=0.25)
    )
    pgd, deepfool = panels(strong_drawing(rows))
    assert pgd.get_ylabel().startswith("PGD, L∞")
    assert list(pgd.lines[0].get_xdata()) == [0.1, 0.2]
    assert list(pgd.lines[0].get_ydata()) == [pytest.approx(50), pytest.approx(0)]
    assert list(deepfool.lines[0].get_ydata()) == [75, 50, 25]


def test_corruptions_by_severity() -> None:
    rows = [
        row("corruptions", corruption=name, severity=severity, accuracy=top - severity / 10,
            clean_accuracy=0.9, images=9)
        for name, top in (("fog", 0.9), ("frost", 0.7))
        for severity in range(1, 6)
    ]  # fmt: skip
    mean, fog, frost = panels(corruptions_drawing(rows))
    assert fog.get_ylabel().startswith("fog")
    assert [list(panel.lines[0].get_ydata())[:3] for panel in (mean, fog, frost)] == [
        [pytest.approx(90), pytest.approx(70), pytest.approx(60)],
        [pytest.approx(90), pytest.approx(80), pytest.approx(70)],
        [pytest.approx(90), pytest.approx(60), pytest.approx(50)],
    ]


# Machado et al. (2009): how the colour-blind see linear RGB.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour: str, sight: Sequence[Sequence[float]]) -> Floats:
    """CIE L*a*b* of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    x, y, z = np.cbrt(np.array(XYZ) @ seen / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", ["normal", *BLIND])
def test_everyone_can_tell_the_networks_apart(sight: str) -> None:
    seen = [lab(c, BLIND.get(sight, np.eye(3).tolist())) for c in (*COLOURS.values(), "#ffffff")]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    # 2.3 is just noticeable
    assert min(distances) > 15
