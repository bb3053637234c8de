"""Verdicts on robustness, from constructed rows whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.findings import robustness_verdicts as robust
from benchmarks.findings.aggregate import Cell, Group
from benchmarks.findings.comparisons import published_comparisons
from benchmarks.findings.published import published_curve, published_scales
from benchmarks.findings.robustness_pairs import masking, paired_comparisons
from benchmarks.findings.verdicts import Rule
from benchmarks.measures.curves import Curve, compare
from benchmarks.runs.jobs import Row
from tests.benchmarks.synthetic_rows import l2_row, row


def label(rule: Rule, rows: Sequence[Row]) -> str:
    return rule(rows).label


def distances(seed: int = 0, images: int = 300) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).gamma(4, 0.5, images)


def pair(scale: float, *, attack: str = "PointwiseAttack", **columns: Any) -> list[Row]:
    bu = distances()
    return [
        l2_row("bu", bu, attack=attack, **columns),
        l2_row("td", scale * bu, attack=attack, **columns),
    ]


@pytest.mark.parametrize(
    ("scale", "answer"), [(1.5, "holds"), (1.0, "undecided"), (0.7, "does not hold")]
)
def test_more_robust(scale: float, answer: str) -> None:
    rule = robust.more_robust(["PointwiseAttack"])
    assert label(rule, pair(scale)) == answer
    assert label(rule, pair(scale, attack="ShiftsAttack")) == "not run"


def test_more_robust_but_within_the_spread() -> None:
    rows = [l2_row("bu", distances(0, 40)), l2_row("td", 1.02 * distances(1, 40))]
    verdict = robust.more_robust(["PointwiseAttack"])(rows)
    assert verdict.label == "undecided"
    assert "(0 beyond the spread)" in verdict.ours


def test_more_than_half_of_the_cases_decide() -> None:
    attacks = ("PointwiseAttack", "GaussianBlurAttack")
    rows = pair(1.5) + pair(0.8, attack="GaussianBlurAttack")
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
    ("medium", "answer"), [(0.8, "holds"), (0.94, "undecided"), (0.99, "does not hold")]
)
def test_most_vulnerable(medium: float, answer: str) -> None:
    noise = {"high": (0, 0.01, 0), "medium": (0.01, 0, 0), "low": (0, 0, 0.01)}
    # the networks differ by far more than their levels do
    levels = {"high": (0.95, 0.70, 0.80), "low": (0.96, 0.72, 0.81)}
    levels["medium"] = tuple(medium - 0.95 + high for high in levels["high"])
    rows = [
        row(
            "scales",
            attack=attack,
            perturbed=level,
            accuracy=accuracy + spread,
            images=500,
            run=run,
        )
        for attack in ("PointwiseAttack", "ShiftsAttack")
        for level, accuracies in levels.items()
        for run, (accuracy, spread) in enumerate(zip(accuracies, noise[level], strict=True))
    ]
    rule = robust.most_vulnerable("medium", Cell("nin-light", "mnist", False))
    assert label(rule, rows) == answer
    assert label(rule, [r for r in rows if r["perturbed"] != "low"]) == "not run"
    # nothing is decided from a single run
    assert label(rule, [r for r in rows if r["run"] == 0]) == "undecided"


def strong(arrangement: str, accuracy: float, **columns: Any) -> Row:
    given = {"attack": "PGD", "norm": "linf", "epsilon": 0.1, "images": 500, **columns}
    # which images stay right: another draw for each network
    images = given["images"]
    right = np.arange(images) < round(accuracy * images)
    listed = np.random.default_rng(len(arrangement + given["attack"])).permutation(right)
    if arrangement == "bu":
        listed = right
    kept = {"right": listed.astype(int).tolist(), "signs": []}
    return row("strong", arrangement, robust_accuracy=accuracy, **{**kept, **given})


@pytest.mark.parametrize(
    ("td", "answer"), [(0.7, "holds"), (0.52, "undecided"), (0.3, "does not hold")]
)
def test_strong_attacks(td: float, answer: str) -> None:
    assert label(robust.survives_strong_attacks, [strong("bu", 0.5), strong("td", td)]) == answer
    assert label(robust.survives_strong_attacks, [strong("bu", 0.5)]) == "not run"


def test_where_both_lose_everything_nothing_is_told() -> None:
    lost = [strong("bu", 0.0, epsilon=0.3), strong("td", 0.01, epsilon=0.3)]
    assert label(robust.survives_strong_attacks, lost) == "undecided"
    told = [strong("bu", 0.5), strong("td", 0.7)]
    assert label(robust.survives_strong_attacks, lost + told) == "holds"


def test_images_that_are_wrong_from_the_start_are_left_out() -> None:
    bu = [*distances(images=60)]
    # TD is the worse network: half of its images are wrong, and the others fall earlier
    td = [-1.0] * 30 + [0.8 * norm for norm in bu[30:]]
    rows = [l2_row("bu", bu), l2_row("td", td)]
    found = paired_comparisons(rows)[Cell("nin-light", "mnist", False), "PointwiseAttack"]
    assert (found.images, found.told) == (30, 30)
    assert math.exp(found.advantage) == pytest.approx(0.8)
    assert label(robust.more_robust(["PointwiseAttack"]), rows) == "does not hold"


def test_the_authors_searches_are_not_judged() -> None:
    rows = pair(1.5, distance="linf")
    assert label(robust.more_robust(["PointwiseAttack"]), rows) == "not run"


def test_signs_of_masked_gradients_stand_beside_the_verdict() -> None:
    rule, rows = robust.more_robust(["PointwiseAttack"]), pair(1.5)
    assert "gradient masking not checked" in rule(rows).ours
    checked = [strong(name, 0.5, attack="AutoAttack") for name in ("bu", "td")]
    assert "no sign of gradient masking in 2 networks" in rule(rows + checked).ours
    checked[1]["signs"] = ["zero gradients"]
    assert "NIN-light, MNIST TD: zero gradients" in rule(rows + checked).ours
    checked[1]["signs"] = []
    far = row("strong", attack="DeepFool", norm="l2", l2=[9.0] * 300, images=300)
    assert "TD: a black-box attack comes closer" in rule([*rows, *checked, far]).ours


def test_images_that_were_wrong_from_the_start_are_no_sign() -> None:
    """Nothing comes closer to a norm of -1, which stands for them: all attacks have it."""
    missed = np.where(np.arange(300) < 30, -1.0, distances())
    near = row("strong", attack="DeepFool", norm="l2", l2=[*(missed * (missed < 0))], images=300)
    checked = [strong("td", 0.5, attack="AutoAttack"), near]
    found = masking([l2_row("td", missed), *checked], [Cell("nin-light", "mnist", False)])
    assert found == "no sign of gradient masking in 1 networks"


@pytest.mark.parametrize(
    ("td", "answer"), [(0.8, "holds"), (0.61, "undecided"), (0.4, "does not hold")]
)
def test_corruptions(td: float, answer: str) -> None:
    rows = [
        row("corruptions", name, corruption="fog", severity=severity, accuracy=accuracy + run / 100,
            images=500, run=run)
        for name, accuracy in (("bu", 0.6), ("td", td))
        for severity in (1, 5)
        for run in range(3)
    ]  # fmt: skip
    assert label(robust.survives_corruptions, rows) == answer
    # nothing is decided from a single run
    assert label(robust.survives_corruptions, [r for r in rows if r["run"] == 0]) == "undecided"


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
