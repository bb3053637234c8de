"""Verdicts on constructed rows whose answer is known."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import robustness_verdicts as robust
from benchmarks import verdicts
from benchmarks.aggregate import Cell, Group, Spread, current, failed, pooled_deviation, spreads
from benchmarks.claims import CLAIMS, as_markdown, judge, write_csv
from benchmarks.cli import main
from benchmarks.curves import Curve, compare, published_comparisons
from benchmarks.fields import EXAMPLE, example_fields, starts_coarse
from benchmarks.jobs import Row
from benchmarks.published import published_curve, published_scales
from benchmarks.store import Store
from benchmarks.verdicts import Rule
from tests.synthetic_rows import accuracies, everything, l2_row, row

BU = (0.98, 0.982)


def label(rule: Rule, rows: Sequence[Row]) -> str:
    return rule(rows).label


# Aggregation


def test_mean_and_deviation_over_runs() -> None:
    found = spreads(accuracies("td", [0.9, 0.92, 0.97]), "test_accuracy")
    spread = found[(Group("nin-light", "td", "mnist", False),)]
    assert spread.mean == pytest.approx(0.93)
    assert spread.deviation == pytest.approx(np.std([0.9, 0.92, 0.97], ddof=1))
    assert spread.runs == 3
    assert math.isnan(Spread.of([1.0]).deviation)
    assert pooled_deviation(Spread(0, 3, 2), Spread(0, 4, 2)) == pytest.approx(math.sqrt(12.5))


def test_the_newest_of_each_measurement_counts() -> None:
    old = row("train", test_accuracy=0.1, finished="2026-01-01T00:00:00+00:00")
    new = row("train", test_accuracy=0.9, finished="2026-01-02T00:00:00+00:00", job="other")
    lost = row("train", status="failed", finished="2026-01-03T00:00:00+00:00", run=1)
    assert current([new, old, lost]) == [new]


def test_networks_are_compared_under_one_profile() -> None:
    smoke = [row("train", name, profile="smoke", test_accuracy=0.5) for name in ("bu", "td")]
    cpu = [row("train", name, profile="cpu", test_accuracy=0.6) for name in ("bu", "td")]
    paper = [row("train", "bu", profile="paper", test_accuracy=0.9)]
    assert current([*cpu, *smoke, *paper]) == cpu
    both = [*paper, row("train", "td", profile="paper", test_accuracy=0.9)]
    assert current([*both, *cpu, *smoke]) == both


def test_a_job_that_went_well_in_the_end_has_not_failed() -> None:
    bad, good = row("train", job="a", status="failed"), row("train", job="a")
    assert failed([bad, good]) == []
    assert failed([bad]) == [bad]


# Exp 1


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.979, 0.980), "holds"),
        ((0.990, 0.992), "holds"),  # better is not worse
        ((0.950, 0.952), "does not hold"),
        ((0.960, 0.984), "undecided"),  # the spread reaches across the margin
        ((0.979,), "undecided"),
    ],
)
def test_on_par(td: Sequence[float], answer: str) -> None:
    rule = verdicts.on_par("bu")
    assert label(rule, accuracies("bu", BU) + accuracies("td", td)) == answer
    assert label(rule, accuracies("bu", BU)) == "not run"


def test_one_cell_decides_for_all() -> None:
    good = accuracies("bu", BU) + accuracies("td", BU)
    bad = [
        *accuracies("bu", BU, data="fashion-mnist"),
        *accuracies("td", (0.9, 0.902), data="fashion-mnist"),
    ]
    verdict = verdicts.on_par("bu")(good + bad)
    assert verdict.holds is False
    assert verdict.reason == "on par in 1 of 2; not in NIN-light, Fashion-MNIST"


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.990, 0.992), "holds"),
        ((0.981, 0.983), "does not hold"),  # within the spread
        ((0.990,), "undecided"),
    ],
)
def test_better_means_beyond_the_spread(td: Sequence[float], answer: str) -> None:
    rows = accuracies("bu", BU) + accuracies("td", td)
    assert label(verdicts.surpasses, rows) == answer


@pytest.mark.parametrize(
    ("best", "answer"),
    [((0.99, 0.992), "holds"), ((0.981, 0.983), "does not hold"), ((0.99,), "undecided")],
)
def test_reversed_best(best: Sequence[float], answer: str) -> None:
    rows = [
        *accuracies("td", BU),
        *accuracies("uniform", BU),
        *accuracies("reversed", best),
    ]
    assert label(verdicts.reversed_best, rows) == answer
    assert label(verdicts.reversed_best, rows[:2]) == "not run"


@pytest.mark.parametrize(
    ("uniform", "answer"), [((0.979, 0.98), "holds"), ((0.95, 0.951), "does not hold")]
)
def test_variants_agree(uniform: Sequence[float], answer: str) -> None:
    rows = [*accuracies("td", BU), *accuracies("uniform", uniform), *accuracies("reversed", BU)]
    assert label(verdicts.variants_agree, rows) == answer
    others = [{**r, "model": "lenet-fc"} for r in rows]
    assert label(verdicts.variants_agree, others) == "not run"


def test_applicable_to_two_networks_and_two_data_sets() -> None:
    rows: list[Row] = []
    for model, data in itertools.product(("lenet-fc", "nin-light"), ("mnist", "fashion-mnist")):
        assert label(verdicts.applicable, rows) == ("undecided" if rows else "not run")
        rows += accuracies("bu", BU, model=model, data=data)
        rows += accuracies("td", BU, model=model, data=data)
        if (model, data) == ("nin-light", "mnist"):
            break
    assert label(verdicts.applicable, rows) == "holds"


def parameters(model: str, arrangement: str, count: int, paper: str | None) -> Row:
    return row("parameters", arrangement, model=model, data=None, parameters=count, paper=paper)


def test_parameter_counts() -> None:
    # sixteen rows are wanted: invented networks fill them up
    rows = [parameters(f"invented {i}", "td", 57846, "58k") for i in range(15)]
    right, wrong = parameters("nin", "td", 3368478, "3,368k"), parameters("nin", "td", 1, "3,368k")
    assert label(verdicts.counts_agree, [*rows, right]) == "holds"
    assert label(verdicts.counts_agree, rows) == "undecided"
    assert verdicts.counts_agree([*rows, wrong]).reason == "differ: nin td"
    assert label(verdicts.counts_agree, [*rows, wrong]) == "does not hold"
    assert label(verdicts.counts_agree, []) == "not run"


def test_parameter_growth() -> None:
    rows = [parameters("nin", "bu", 100, None), parameters("nin", "td", 150, None)]
    assert verdicts.counts_grow("bu", "td")(rows).ours == "NIN ×1.50"
    assert label(verdicts.counts_grow("bu", "td"), rows) == "holds"
    assert label(verdicts.counts_grow("td", "bu"), rows) == "does not hold"
    assert label(verdicts.counts_grow("td", "reversed"), rows) == "not run"


# Exp 2


def distances(seed: int = 0, images: int = 300) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).gamma(4, 0.5, images)


def pair(scale: float, *, attack: str = "PointwiseAttack", **columns: Any) -> list[Row]:
    bu = distances()
    return [
        l2_row("bu", bu, attack=attack, **columns),
        l2_row("td", scale * bu, attack=attack, **columns),
    ]


@pytest.mark.parametrize(
    ("scale", "answer"), [(1.5, "holds"), (1.0, "does not hold"), (0.7, "does not hold")]
)
def test_more_robust(scale: float, answer: str) -> None:
    rule = robust.more_robust(["PointwiseAttack"])
    assert label(rule, pair(scale)) == answer
    assert label(rule, pair(scale, attack="ShiftsAttack")) == "not run"


def test_more_robust_but_within_the_spread() -> None:
    rows = [l2_row("bu", distances(0, 40)), l2_row("td", 1.02 * distances(1, 40))]
    verdict = robust.more_robust(["PointwiseAttack"])(rows)
    assert verdict.label == "does not hold"
    assert "(0 beyond the spread)" in verdict.ours


def test_more_than_half_of_the_cases_decide() -> None:
    attacks = ("PointwiseAttack", "GaussianBlurAttack")
    rows = pair(1.5) + pair(1.0, attack="GaussianBlurAttack")
    assert label(robust.more_robust(attacks), rows) == "does not hold"
    rows += pair(1.5, data="fashion-mnist")
    assert label(robust.more_robust(attacks), rows) == "holds"


@pytest.mark.parametrize(
    ("scale", "answer"), [(1.0, "holds"), (0.8, "holds"), (1.5, "does not hold")]
)
def test_no_gain(scale: float, answer: str) -> None:
    rule = robust.no_gain(["SpatialAttack"])
    assert label(rule, pair(scale, attack="SpatialAttack")) == answer
    assert label(rule, []) == "not run"


def test_no_gain_is_open_where_the_interval_is_wide() -> None:
    few = [
        l2_row("bu", distances(0, 8), attack="SpatialAttack"),
        l2_row("td", distances(1, 8), attack="SpatialAttack"),
    ]
    assert label(robust.no_gain(["SpatialAttack"]), few) == "undecided"


def test_less_robust() -> None:
    rule = robust.less_robust(["SpatialAttack"], models=["resnet32"])
    rows = pair(0.7, attack="SpatialAttack", model="resnet32", data="cifar10")
    assert label(rule, rows) == "holds"
    assert label(rule, pair(0.7, attack="SpatialAttack")) == "not run"


def test_curve_counts_neither_wrong_nor_unfooled_images_as_lost() -> None:
    curve = Curve.of([l2_row("td", [-1, None, 1.0, 2.0])])
    assert curve.plateau == 50
    assert [curve.l2_at(level) for level in (10, 25, 26, 50, 51)] == [1, 1, 2, 2, None]
    assert [list(part) for part in curve.points] == [[0, 1, 2], [0, 25, 50]]


def test_the_ratio_of_scaled_distances_is_the_scale() -> None:
    bu = distances()
    found = compare(Curve((bu,)), Curve((1.5 * bu,)))
    assert math.exp(found.advantage) == pytest.approx(1.5)
    assert found.low == pytest.approx(found.high)  # the images are paired
    assert str(found) == "×1.50 [×1.50, ×1.50]"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    outside = 0
    for seed in range(100):
        bu, td = distances(2 * seed, 150), 1.2 * distances(2 * seed + 1, 150)
        found = compare(Curve((bu,)), Curve((td,)), resamples=200)
        outside += not found.low <= math.log(1.2) <= found.high
    assert outside <= 12


def test_runs_that_differ_widen_the_interval() -> None:
    bu, td = distances(), 1.1 * distances()
    alike = compare(Curve((bu, bu)), Curve((td, td)))
    unlike = compare(Curve((0.6 * bu, 1.4 * bu)), Curve((0.6 * td, 1.4 * td)))
    assert alike.better
    assert not unlike.better


def test_levels_that_one_network_never_reaches() -> None:
    bu = Curve((np.array([1.0] * 60 + [np.inf] * 40),))
    never = Curve((np.full(100, np.inf),))
    assert str(compare(bu, never)).startswith("×∞")
    assert compare(bu, never).better
    assert compare(never, bu).worse
    some = Curve((np.array([1.0] * 5 + [np.inf] * 95),))
    # neither loses 10 points: the final losses are compared
    assert compare(some, never).measure == "loss difference"
    assert compare(some, never).advantage == pytest.approx(5)
    fixed = compare(bu, bu, fixed_size=True)
    assert (fixed.measure, fixed.advantage) == ("loss difference", 0)


@pytest.mark.parametrize(
    ("medium", "answer"), [(0.8, "holds"), (0.94, "does not hold"), (0.99, "does not hold")]
)
def test_most_vulnerable(medium: float, answer: str) -> None:
    levels = {"high": 0.95, "medium": medium, "low": 0.96}
    rows = [
        row("scales", attack=attack, perturbed=level, accuracy=accuracy, images=500)
        for attack in ("PointwiseAttack", "ShiftsAttack")
        for level, accuracy in levels.items()
    ]
    rule = robust.most_vulnerable("medium", Cell("nin-light", "mnist", False))
    assert label(rule, rows) == answer
    assert label(rule, rows[:2]) == "not run"


def strong(arrangement: str, accuracy: float, **columns: Any) -> Row:
    given = {"attack": "PGD", "norm": "linf", "epsilon": 0.1, "images": 500, **columns}
    return row("strong", arrangement, robust_accuracy=accuracy, **given)


@pytest.mark.parametrize(
    ("td", "answer"), [(0.7, "holds"), (0.52, "does not hold"), (0.3, "does not hold")]
)
def test_strong_attacks(td: float, answer: str) -> None:
    assert label(robust.survives_strong_attacks, [strong("bu", 0.5), strong("td", td)]) == answer
    assert label(robust.survives_strong_attacks, [strong("bu", 0.5)]) == "not run"


def test_where_both_lose_everything_nothing_is_told() -> None:
    lost = [strong("bu", 0.0, epsilon=0.3), strong("td", 0.01, epsilon=0.3)]
    assert label(robust.survives_strong_attacks, lost) == "undecided"
    told = [strong("bu", 0.5), strong("td", 0.7)]
    assert label(robust.survives_strong_attacks, lost + told) == "holds"


@pytest.mark.parametrize(("td", "answer"), [(0.8, "holds"), (0.61, "does not hold")])
def test_corruptions(td: float, answer: str) -> None:
    rows = [
        row("corruptions", name, corruption="fog", severity=3, accuracy=accuracy, images=500)
        for name, accuracy in (("bu", 0.6), ("td", td))
    ]
    assert label(robust.survives_corruptions, rows) == answer


# Exp 3


def localisation(measure: str, bu: Sequence[float], td: Sequence[float]) -> list[Row]:
    return [
        row("localisation", name, run=run, data="fashion-mnist", **{measure: value})
        for name, values in (("bu", bu), ("td", td))
        for run, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("td", "answer"),
    [((0.8, 0.82), "holds"), ((0.61, 0.63), "does not hold"), ((0.8,), "undecided")],
)
def test_precision(td: Sequence[float], answer: str) -> None:
    rows = localisation("precision", (0.6, 0.62), td)
    assert label(verdicts.precision_higher("fashion-mnist"), rows) == answer
    assert label(verdicts.precision_higher("mnist"), rows) == "not run"


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.55, 0.56), "holds"),
        ((0.61, 0.62), "does not hold"),
        ((0.2, 0.21), "does not hold"),  # that is not slightly
        ((0.55,), "undecided"),
    ],
)
def test_recall(td: Sequence[float], answer: str) -> None:
    rows = localisation("recall", (0.6, 0.61), td)
    assert label(verdicts.recall_slightly_lower("fashion-mnist"), rows) == answer


# Receptive fields


def test_the_example_of_section_3() -> None:
    assert example_fields() == EXAMPLE
    verdict = starts_coarse([])
    assert verdict.ours.startswith("example: TD 18, BU 18 pixels; LeNetFC: TD 20, BU 24 pixels")
    assert verdict.holds is False


# The authors' figures


def test_the_authors_figures() -> None:
    curve = published_curve(Group("nin-light", "td", "mnist", False), "PointwiseAttack")
    assert curve is not None
    assert (curve.l2_at_loss[50], curve.plateau, curve.max_l2) == (6.555, 99.5, 19.58)
    assert published_curve(Group("nin", "uniform", "cifar10", True), "PointwiseAttack") is None
    found = published_comparisons()
    assert len(found) == 80
    # 4.6/2.378, 5.416/3.024, 6.555/3.798, 7.725/4.829: the middle two are 1.791 and 1.726
    assert math.exp(found[Cell("nin-light", "mnist", False), "PointwiseAttack"].advantage) == (
        pytest.approx(1.758, abs=0.001)
    )
    levels = published_scales(Cell("nin", "cifar10", True), "GaussianBlurAttack")
    assert levels["high"] == pytest.approx(0.444)
    assert levels["high-medium"] == pytest.approx(0.183)


# The table


def test_without_results_only_the_fields_are_judged() -> None:
    labels = [one.verdict.label for one in judge([])]
    assert labels[:2] == ["holds", "does not hold"]
    assert set(labels[2:]) == {"not run"}


def test_other_data_count_where_the_papers_were_not_run() -> None:
    own = accuracies("bu", BU, data="digits") + accuracies("td", BU, data="digits")
    paper = accuracies("bu", BU) + accuracies("td", (0.9, 0.901))

    def on_par(rows: Sequence[Row]) -> tuple[str, str]:
        verdict = next(j.verdict for j in judge(rows) if "on par with" in j.claim.text)
        return verdict.label, verdict.ours

    assert on_par(own)[0] == "holds"
    assert "digits" in on_par(own)[1]
    assert on_par(own + paper)[0] == "does not hold"
    assert "digits" not in on_par(own + paper)[1]


def test_the_table_as_markdown_and_csv(tmp_path: Path) -> None:
    judged = judge(everything(attacks=("PointwiseAttack",), images=20))
    lines = as_markdown(judged).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(CLAIMS)
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    # the criterion of each claim stands below
    assert all(f"{i}. {claim.criterion}" in lines for i, claim in enumerate(CLAIMS, start=1))
    write_csv(judged, tmp_path / "claims.csv")
    with (tmp_path / "claims.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [one["claim"] for one in found] == [claim.text for claim in CLAIMS]
    assert {one["verdict"] for one in found} >= {"holds", "not run"}


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).append(*accuracies("bu", BU), *accuracies("td", BU))
    page = tmp_path / "docs" / "claims.md"
    main(["claims", "--results", str(tmp_path), "--markdown", str(page)])
    printed = capsys.readouterr().out
    assert "TD networks are on par with their BU" in printed
    assert "Holds when:" in printed
    assert "| TD networks are on par with their BU baselines. |" in page.read_text()
    with pytest.raises(SystemExit):
        main(["claims", "--results", str(tmp_path / "nothing")])
    assert "run an experiment first, or name its folder" in capsys.readouterr().err
