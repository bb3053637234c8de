"""Rules for accuracies and counts on constructed rows whose answer is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from benchmarks.findings import accuracy_verdicts as accuracy
from benchmarks.findings import count_verdicts as counts
from benchmarks.findings.verdicts import Rule
from benchmarks.runs.jobs import Row
from tests.benchmarks.synthetic_rows import accuracies, row

BU = (0.980, 0.982, 0.981, 0.979)


def label(rule: Rule, rows: Sequence[Row]) -> str:
    return rule(rows).label


def moved(by: float) -> tuple[float, ...]:
    return tuple(value + by for value in BU)


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        (moved(-0.001), "holds"),
        (moved(0.1), "holds"),  # better is not worse
        (moved(-0.03), "does not hold"),
        (moved(-0.01), "undecided"),  # the interval reaches across the margin
        ((0.960, 0.984), "undecided"),
        ((0.979,), "undecided"),
    ],
)
def test_on_par(td: Sequence[float], answer: str) -> None:
    assert label(accuracy.on_par, accuracies("bu", BU) + accuracies("td", td)) == answer
    assert label(accuracy.on_par, accuracies("bu", BU)) == "not run"


@pytest.mark.parametrize(
    ("best", "answer"),
    [
        (moved(0.001), "holds"),
        (moved(0.1), "does not hold"),  # unlike on par, this has two sides
        (moved(-0.1), "does not hold"),
        (moved(0.01), "undecided"),
        ((0.98,), "undecided"),
    ],
)
def test_small_gap(best: Sequence[float], answer: str) -> None:
    assert label(accuracy.small_gap, accuracies("td", BU) + accuracies("reversed", best)) == answer


def test_one_cell_decides_for_all() -> None:
    good = accuracies("bu", BU) + accuracies("td", BU)
    bad = [
        *accuracies("bu", BU, data="fashion-mnist"),
        *accuracies("td", moved(-0.08), data="fashion-mnist"),
    ]
    verdict = accuracy.on_par(good + bad)
    assert verdict.holds is False
    assert verdict.ours == "on par in 1 of 2 cells, not in 1"
    assert "NIN-light, Fashion-MNIST: BU 98.05" in verdict.reason


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        (moved(0.01), "holds"),
        (moved(0.001), "undecided"),
        (moved(-0.01), "does not hold"),
        ((0.990,), "undecided"),
        # by more than the pooled standard deviation, which two runs pass in 42 % of cases by chance
        ((0.983, 0.981), "undecided"),
    ],
)
def test_surpasses(td: Sequence[float], answer: str) -> None:
    assert label(accuracy.surpasses, accuracies("bu", BU) + accuracies("td", td)) == answer


def test_who_looks_at_more_cells_needs_a_clearer_lead() -> None:
    def cells(count: int) -> list[Row]:
        rows = accuracies("bu", BU, data="first") + accuracies("td", moved(0.0025), data="first")
        for number in range(count - 1):
            rows += accuracies("bu", BU, data=f"other {number}")
            rows += accuracies("td", BU, data=f"other {number}")
        return rows

    assert label(accuracy.surpasses, cells(1)) == "holds"
    assert label(accuracy.surpasses, cells(8)) == "undecided"


@pytest.mark.parametrize(
    ("best", "answer"),
    [
        (moved(0.01), "holds"),
        (moved(0.001), "undecided"),
        (moved(-0.01), "does not hold"),
        ((0.99,), "undecided"),
    ],
)
def test_reversed_best(best: Sequence[float], answer: str) -> None:
    rows = accuracies("td", BU) + accuracies("uniform", BU) + accuracies("reversed", best)
    assert label(accuracy.reversed_best, rows) == answer
    assert label(accuracy.reversed_best, rows[:4]) == "not run"


@pytest.mark.parametrize(
    ("uniform", "answer"),
    [
        (moved(-0.001), "holds"),
        (moved(-0.03), "does not hold"),
        (moved(-0.01), "undecided"),
    ],
)
def test_variants_agree(uniform: Sequence[float], answer: str) -> None:
    rows = accuracies("td", BU) + accuracies("uniform", uniform) + accuracies("reversed", BU)
    assert label(accuracy.variants_agree, rows) == answer


def test_applicable_to_two_networks_and_two_data_sets() -> None:
    rows: list[Row] = []
    places = list(itertools.product(("lenet-fc", "nin-light"), ("mnist", "fashion-mnist")))
    for model, data in places[:3]:
        rows += accuracies("bu", BU, model=model, data=data)
        rows += accuracies("td", BU, model=model, data=data)
    assert label(accuracy.applicable, rows) == "holds"
    assert accuracy.applicable(rows).ours == "shown on par: networks 2, data sets 2"


def test_what_is_made_of_undecided_cells_is_undecided() -> None:
    """Cells that are open by their spread could turn out on par: they leave the claim open."""
    rows: list[Row] = []
    for model, data in itertools.product(("lenet-fc", "nin-light"), ("mnist", "fashion-mnist")):
        rows += accuracies("bu", BU, model=model, data=data)
        rows += accuracies("td", (0.960, 0.984), model=model, data=data)
    assert label(accuracy.on_par, rows) == "undecided"
    assert label(accuracy.applicable, rows) == "undecided"
    # shown to be worse everywhere: then it can't be applicable
    worse = [{**r, "test_accuracy": 0.5} if r["arrangement"] == "td" else r for r in rows]
    assert label(accuracy.applicable, worse) == "does not hold"


# Parameters


def parameters(model: str, arrangement: str, count: int, paper: str | None) -> Row:
    return row("parameters", arrangement, model=model, data=None, parameters=count, paper=paper)


def test_parameter_counts() -> None:
    # sixteen rows are wanted: invented networks fill them up
    rows = [parameters(f"invented {i}", "td", 57846, "58k") for i in range(15)]
    right, wrong = parameters("nin", "td", 3368478, "3,368k"), parameters("nin", "td", 1, "3,368k")
    assert label(counts.counts_agree, [*rows, right]) == "holds"
    assert label(counts.counts_agree, rows) == "undecided"
    assert counts.counts_agree([*rows, wrong]).reason == "differ: nin td"
    assert label(counts.counts_agree, [*rows, wrong]) == "does not hold"
    assert label(counts.counts_agree, []) == "not run"


def test_parameter_growth() -> None:
    rows = [parameters("nin", "bu", 100, None), parameters("nin", "td", 150, None)]
    assert counts.counts_grow("bu", "td")(rows).ours == "NIN ×1.50"
    assert label(counts.counts_grow("bu", "td"), rows) == "holds"
    assert label(counts.counts_grow("td", "bu"), rows) == "does not hold"
    assert label(counts.counts_grow("td", "reversed"), rows) == "not run"
