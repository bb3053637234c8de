"""Intervals and tests over runs, and what chance does to counts.

Differences between means over runs: Welch's interval (unequal variances). "The same": two one-sided
tests (TOST) against a stated margin, as the inclusion of an interval. Nothing is decided from a single
run, nor from runs without any spread.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

# The error that a single decision may make.
ALPHA = 0.05
CONFIDENCE = 1 - ALPHA


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; `low` and `high` are infinite where there is none.

    Args:
        estimate: of a mean, or of a difference between means.
        low, high: its ends.
    """

    estimate: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Is there any bound?"""
        return math.isfinite(self.low) or math.isfinite(self.high)

    @property
    def sign(self) -> bool | None:
        """True: all of it is above 0; False: below; None: it holds 0.

        Example:
            >>> Interval(1.0, 0.5, 1.5).sign, Interval(1.0, -0.5, 2.5).sign
            (True, None)
        """
        return True if self.low > 0 else (False if self.high < 0 else None)

    def points(self) -> str:
        """Of shares, as percentage points.

        Example:
            >>> Interval(0.01, 0.005, 0.015).points()
            '+1.00 [+0.50, +1.50] points'
        """
        shown = f"{100 * self.estimate:+.2f}"
        if self.is_known:
            shown += f" [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"
        return f"{shown} points"


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of a mean over runs.

    Args:
        values: one per run.
        confidence: of the interval.

    Example:
        >>> found = mean_interval([1.0, 2.0, 3.0])
        >>> round(found.low, 2), round(found.high, 2)
        (-0.48, 4.48)
    """
    mean = math.fsum(values) / len(values)
    if _without_spread(values):
        return Interval(mean, -math.inf, math.inf)
    found = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return Interval(mean, float(found.low), float(found.high))


def welch(
    one: Sequence[float], other: Sequence[float], *, confidence: float = CONFIDENCE
) -> Interval:
    """The difference of two means over runs, with Welch's interval.

    Args:
        one, other: one value per run.
        confidence: of the interval.

    Returns:
        `one`'s mean minus `other`'s; without bounds where either is a single run, or where neither
        has any spread.

    Example:
        >>> found = welch([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
        >>> found.estimate, round(found.low, 2), round(found.high, 2)
        (2.0, -0.27, 4.27)
    """
    lead = math.fsum(one) / len(one) - math.fsum(other) / len(other)
    few = min(len(one), len(other)) < 2
    if few or (_without_spread(one) and _without_spread(other)):
        return Interval(lead, -math.inf, math.inf)
    with warnings.catch_warnings():
        # of runs that agree in all digits; the other network's have a spread
        warnings.filterwarnings("ignore", "Precision loss occurred", RuntimeWarning)
        found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    return Interval(lead, float(found.low), float(found.high))


def equivalent(
    one: Sequence[float], other: Sequence[float], *, margin: float, alpha: float = ALPHA
) -> bool | None:
    """Do two means differ by less than a margin? Two one-sided tests, each at `alpha`.

    Returns:
        True: shown, the interval of confidence 1 - 2 alpha lies between -margin and +margin. False:
        the difference is shown to be larger than the margin, one way or the other. None: open.

    Example:
        >>> equivalent([0.98, 0.981, 0.982], [0.981, 0.98, 0.982], margin=0.01)
        True
    """
    found = welch(one, other, confidence=1 - 2 * alpha)
    if -margin < found.low and found.high < margin:
        return True
    # either way could be the one: each is tested at half of alpha
    wide = welch(one, other, confidence=1 - alpha)
    return False if wide.low > margin or wide.high < -margin else None


def not_worse(
    one: Sequence[float], other: Sequence[float], *, margin: float, alpha: float = ALPHA
) -> bool | None:
    """Is `one`'s mean at most a margin below `other`'s? One-sided tests at `alpha`.

    Returns:
        True: a larger deficit is ruled out. False: it is shown. None: open.

    Example:
        >>> not_worse([0.95, 0.951], [0.98, 0.982], margin=0.01)
        False
    """
    found = welch(one, other, confidence=1 - 2 * alpha)
    if found.low > -margin:
        return True
    return False if found.high < -margin else None


def all_equivalent(
    groups: Sequence[Sequence[float]], *, margin: float, alpha: float = ALPHA
) -> bool | None:
    """Do all pairs of means differ by less than a margin?

    For "yes" every pair must pass at `alpha` (an intersection of tests needs no correction); for "no"
    one pair suffices, at `alpha` divided by the number of pairs.
    """
    pairs = [(one, other) for i, one in enumerate(groups) for other in groups[i + 1 :]]
    if all(equivalent(*pair, margin=margin, alpha=alpha) for pair in pairs):
        return True
    shared = alpha / len(pairs)
    apart = (equivalent(*pair, margin=margin, alpha=shared) is False for pair in pairs)
    return False if any(apart) else None


def chance_of_as_many(count: int, cases: int) -> float:
    """How often as many cases or more would go one way if either were as likely (exact).

    Example:
        >>> chance_of_as_many(3, 3)
        0.125
    """
    return float(stats.binomtest(count, cases, alternative="greater").pvalue)


def share_interval(count: int, cases: int, *, confidence: float = CONFIDENCE) -> Interval:
    """A share of cases with the exact interval of Clopper and Pearson.

    Example:
        >>> found = share_interval(9, 10)
        >>> round(found.low, 3), round(found.high, 3)
        (0.555, 0.997)
    """
    found = stats.binomtest(count, cases).proportion_ci(confidence, method="exact")
    return Interval(count / cases, float(found.low), float(found.high))


def _without_spread(values: Sequence[float]) -> bool:
    return len(values) < 2 or max(values) == min(values)
