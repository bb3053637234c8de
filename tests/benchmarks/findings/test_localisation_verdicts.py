"""Verdicts on localisation, on constructed rows whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.findings.localisation_verdicts import precision_higher, recall_slightly_lower
from benchmarks.runs.jobs import POOLED_HEAT, Row
from tests.benchmarks.synthetic_rows import heat_row

DATA = "fashion-mnist"


def pairs(
    figure: str,
    bu: Sequence[float],
    td: Sequence[float],
    *,
    heatmap: str = "own",
    scaling: str = "centred",
) -> list[Row]:
    """A row per network and run; `heatmap` is TD's."""
    kinds = {"bu": "own", "td": heatmap}
    return [
        heat_row(
            name, run=run, data=DATA, scaling=scaling, heatmap=kinds[name], **{figure: value}
        )
        for name, values in (("bu", bu), ("td", td))
        for run, value in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.70, 0.75, 0.72), "holds"),
        ((0.50, 0.55, 0.52), "does not hold"),
        # one run the other way round
        ((0.70, 0.58, 0.72), "undecided"),
        # runs differ far more than the networks of a run do: the differences are paired
        ((0.63, 0.68, 0.645), "holds"),
        # a run that only one of the networks has is no pair
        ((0.80,), "undecided"),
    ],
)
def test_precision(td: Sequence[float], answer: str) -> None:
    rows = pairs("precision", (0.60, 0.65, 0.62), td)
    assert precision_higher(DATA)(rows).label == answer
    assert precision_higher("mnist")(rows).label == "not run"


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.58, 0.64, 0.60), "holds"),
        ((0.64, 0.70, 0.66), "does not hold"),
        # that is not slightly
        ((0.40, 0.46, 0.42), "does not hold"),
        # the interval holds the margin
        ((0.50, 0.56, 0.50), "undecided"),
        ((0.58, 0.68, 0.62), "undecided"),
    ],
)
def test_recall(td: Sequence[float], answer: str) -> None:
    rows = pairs("recall", (0.60, 0.66, 0.62), td)
    assert recall_slightly_lower(DATA)(rows).label == answer


def test_the_images_of_a_single_run_decide_nothing_but_are_shown() -> None:
    rows = pairs("precision", (0.6,), (0.8,))
    rows[1]["less_bu"] = {"precision": [0.2, 0.19, 0.21]}
    verdict = precision_higher(DATA)(rows)
    assert verdict.label == "undecided"
    assert "95 % over the images of one run from +19.00 to +21.00" in verdict.reason


def test_the_other_scaling_and_the_control_stand_beside_and_do_not_decide() -> None:
    bu, td = (0.60, 0.65), (0.70, 0.75)
    rows = [
        *pairs("precision", bu, td),
        *pairs("precision", td, bu, scaling="min-max"),
        *pairs("precision", bu, bu, heatmap=POOLED_HEAT)[2:],
    ]
    verdict = precision_higher(DATA)(rows)
    assert verdict.label == "holds"
    assert "TD − BU = +10.00 points" in verdict.reason
    assert "scaled min-max: -10.00" in verdict.reason
    assert "pooled to BU's resolution: +0.00" in verdict.reason
