"""Intervals and tests against formulas that are written out here, and against counted chances."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import t as student

from benchmarks.findings import statistics
from benchmarks.findings.statistics import (
    Interval,
    all_equivalent,
    chance_of_as_many,
    equivalent,
    mean_interval,
    not_worse,
    share_interval,
    welch,
)

ONE = (0.981, 0.984, 0.979, 0.986)
OTHER = (0.975, 0.980, 0.978)


def by_hand(one: Sequence[float], other: Sequence[float], confidence: float) -> Interval:
    """Welch (1947): the standard error of both means, degrees of freedom of Satterthwaite."""
    parts = [np.var(values, ddof=1) / len(values) for values in (one, other)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True)
    )
    lead = float(np.mean(one) - np.mean(other))
    half = student.ppf((1 + confidence) / 2, freedom) * math.sqrt(sum(parts))
    return Interval(lead, lead - half, lead + half)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_welch(confidence: float) -> None:
    found, expected = welch(ONE, OTHER, confidence=confidence), by_hand(ONE, OTHER, confidence)
    assert found.estimate == pytest.approx(expected.estimate)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)


def test_the_interval_of_a_mean() -> None:
    half = student.ppf(0.975, 3) * np.std(ONE, ddof=1) / 2
    found = mean_interval(ONE)
    assert found.low == pytest.approx(np.mean(ONE) - half)
    assert found.high == pytest.approx(np.mean(ONE) + half)


@pytest.mark.parametrize(
    ("one", "other"),
    [((0.9,), (0.8, 0.81)), ((0.9, 0.91), (0.8,)), ((0.9, 0.9), (0.8, 0.8))],
    ids=["a single run", "the other", "no spread"],
)
def test_what_has_no_spread_decides_nothing(one: Sequence[float], other: Sequence[float]) -> None:
    found = welch(one, other)
    assert found.estimate == pytest.approx(np.mean(one) - np.mean(other))
    assert not found.is_known
    assert found.sign is None
    assert found.points() == f"{100 * found.estimate:+.2f} points"
    assert not_worse(one, other, margin=0.01) is None
    assert equivalent(one, other, margin=0.2) is None


def test_chance_passes_a_difference_in_one_of_twenty_cases() -> None:
    """The pooled standard deviation, which it replaces, is passed in 42 % with two runs."""
    rng = np.random.default_rng(0)
    for runs, at_most in ((2, 0.06), (4, 0.06)):
        drawn = rng.normal(size=(1000, 2, runs))
        passed = [welch(one, other).sign is not None for one, other in drawn.tolist()]
        assert np.mean(passed) < at_most


def test_two_one_sided_tests() -> None:
    """As in Schuirmann (1987): both one-sided t-tests against the margin are significant."""
    narrow = by_hand(ONE, OTHER, 0.9)
    edge = max(-narrow.low, narrow.high)
    assert equivalent(ONE, OTHER, margin=edge + 1e-9)
    assert equivalent(ONE, OTHER, margin=edge - 1e-9) is None


@pytest.mark.parametrize(
    ("shift", "worse", "same"),
    [(0.0, True, True), (0.1, True, False), (-0.1, False, False), (-0.01, None, None)],
)
def test_not_worse_and_the_same(shift: float, worse: bool | None, same: bool | None) -> None:
    shifted = [value + shift for value in ONE]
    assert not_worse(shifted, ONE, margin=0.01) is worse
    assert equivalent(shifted, ONE, margin=0.01) is same


def test_all_pairs_must_be_the_same() -> None:
    far = [value - 0.1 for value in ONE]
    near = [value - 0.008 for value in ONE]
    assert all_equivalent([ONE, ONE, ONE], margin=0.01) is True
    assert all_equivalent([ONE, ONE, far], margin=0.01) is False
    assert all_equivalent([ONE, ONE, near], margin=0.01) is None


def test_counts_beyond_chance() -> None:
    # 9 of 10 heads or more: 11 of 1,024 ways; 8 or more: 56
    assert [chance_of_as_many(count, 10) for count in (9, 8)] == [11 / 1024, 56 / 1024]
    # where all n cases agree, the lower end of Clopper and Pearson's interval has low^n = 2.5 %
    assert share_interval(10, 10).low == pytest.approx(0.025**0.1)
    assert share_interval(10, 10).high == 1


def test_every_decision_has_the_same_error() -> None:
    assert pytest.approx(0.05) == statistics.ALPHA
    assert pytest.approx(1 - statistics.ALPHA) == statistics.CONFIDENCE
