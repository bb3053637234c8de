"""Two networks under one attack, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.measures.curves import Comparison

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 1000
CRITERION = (
    "on the images that both networks get right: the median over images of the ratio of TD's minimal "
    "L2 to BU's, without images that neither network can be fooled on (for single pixels: the "
    "difference of the shares of images that were fooled); beyond the spread = the "
    f"{CONFIDENCE:.0%} interval of the median (from its order statistics; with several runs a "
    "bootstrap over images and runs) excludes equality; p is that of Wilcoxon's signed-rank test"
)
# An L2 of 0 was rounded from less than half of that.
_LEAST = 1e-4


@dataclass(frozen=True)
class PairedComparison(Comparison):
    """TD against BU on the same images; an advantage above 0 means that TD is the more robust.

    Args:
        measure: `l2 ratio`: the advantage is the median of log(TD's L2 / BU's); `loss difference`:
            the share of images that BU is fooled on minus TD's, in percentage points.
        advantage: the estimate.
        low, high: its interval.
        p: Wilcoxon's signed-rank test of no difference (`loss difference`: McNemar's exact test).
        images: how many both networks get right.
        told: how many of these tell something: at least one of the networks was fooled (`loss
            difference`: exactly one).
    """

    p: float
    images: int
    told: int

    def __str__(self) -> str:
        interval = f"[{self._show(self.low)}, {self._show(self.high)}]"
        counts = f"{self.told} of {self.images} images, p {self.p:.2g}"
        return f"{self._show(self.advantage)} {interval} ({counts})"


def compare_pairs(
    bu: Sequence[Sequence[float | None]],
    td: Sequence[Sequence[float | None]],
    *,
    fixed_size: bool = False,
) -> PairedComparison | None:
    """How much more robust TD is than BU; None where no image is right for both.

    Args:
        bu, td: per run and image the minimal L2 as rows have it: -1 where the image was wrong from
            the start, None where nothing was found; the same runs and images in the same order.
        fixed_size: the attack's L2 is what it is: the shares of fooled images are compared.

    Raises:
        ValueError: the two differ in their runs or images.

    Example:
        >>> compare_pairs([[1.0, 2.0, -1, None]], [[2.0, 4.0, 1.0, None]]).told
        2
    """
    runs = [_both_right(one, other) for one, other in zip(bu, td, strict=True)]
    images = sum(len(one) for one, _ in runs)
    if not images:
        return None
    if fixed_size:
        return _fooled(runs, images)
    return _ratio(runs, images)


def _both_right(bu: Sequence[float | None], td: Sequence[float | None]) -> tuple[Floats, Floats]:
    pairs = [
        (one, other)
        for one, other in zip(bu, td, strict=True)
        if (one is None or one >= 0) and (other is None or other >= 0)
    ]
    values = np.array([[np.inf if v is None else v for v in pair] for pair in pairs], dtype=float)
    values = values.reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _ratio(runs: Sequence[tuple[Floats, Floats]], images: int) -> PairedComparison:
    ratios = [_log_ratios(*run) for run in runs]
    pooled = np.concatenate(ratios)
    told = len(pooled)
    if not told:
        return PairedComparison("l2 ratio", 0.0, -np.inf, np.inf, 1.0, images, 0)
    p = 1.0 if not pooled.any() else float(stats.wilcoxon(_ranked(pooled)).pvalue)
    low, high = _median_interval(pooled) if len(runs) == 1 else _bootstrap(ratios)
    middle = float(np.median(pooled))
    # between -inf and inf there is no middle
    middle = 0.0 if np.isnan(middle) else middle
    return PairedComparison("l2 ratio", middle, low, high, p, images, told)


def _log_ratios(bu: Floats, td: Floats) -> Floats:
    either = np.isfinite(bu) | np.isfinite(td)
    one, other = np.maximum(bu[either], _LEAST), np.maximum(td[either], _LEAST)
    return np.asarray(np.log(other) - np.log(one))


def _ranked(ratios: Floats) -> Floats:
    """Infinite ratios take the largest ranks."""
    finite = np.abs(ratios[np.isfinite(ratios)])
    largest = 1 + (finite.max() if len(finite) else 0.0)
    return np.clip(ratios, -largest, largest)


def _median_interval(values: Floats) -> tuple[float, float]:
    """From the order statistics, without any assumption on the distribution."""
    found = stats.quantile_test(values, q=0, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(found.low), float(found.high)
    # too few values for an interval of this confidence
    return (-np.inf if np.isnan(low) else low), (np.inf if np.isnan(high) else high)


def _bootstrap(ratios: Sequence[Floats]) -> tuple[float, float]:
    """Of the median, over runs and over the images of each."""
    random = np.random.default_rng(0)
    medians = []
    for _ in range(RESAMPLES):
        drawn = [ratios[i] for i in random.integers(len(ratios), size=len(ratios))]
        values = [random.choice(run, len(run)) for run in drawn if len(run)]
        medians.append(np.median(np.concatenate(values)) if values else 0.0)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.nan_to_num(medians), [tail, 100 - tail], method="nearest")
    return _unclipped(low), _unclipped(high)


def _unclipped(value: Any) -> float:
    # nan_to_num made infinity the largest number
    return float(value) if abs(value) < np.finfo(float).max else float(np.copysign(np.inf, value))


def _fooled(runs: Sequence[tuple[Floats, Floats]], images: int) -> PairedComparison:
    """McNemar's exact test on the images that one network alone is fooled on."""
    bu = int(sum((np.isfinite(one) & ~np.isfinite(other)).sum() for one, other in runs))
    td = int(sum((~np.isfinite(one) & np.isfinite(other)).sum() for one, other in runs))
    advantage, low, high, p = mcnemar(bu, td, images)
    return PairedComparison("loss difference", advantage, low, high, p, images, bu + td)


def mcnemar(one: int, other: int, images: int) -> tuple[float, float, float, float]:
    """Difference of two paired shares in points, its interval and p, from what they differ in.

    Args:
        one, other: how many images have the property in the first alone, in the second alone.
        images: of how many.

    Example:
        >>> advantage, low, high, p = mcnemar(9, 1, 100)
        >>> advantage, round(p, 4)
        (8.0, 0.0215)
    """
    differing = one + other
    scale = 100 * differing / images
    if not differing:
        # as few as none in so many images (Clopper-Pearson)
        most = 100 * float(stats.binomtest(0, images).proportion_ci(CONFIDENCE).high)
        return 0.0, -most, most, 1.0
    test = stats.binomtest(one, differing)
    interval = test.proportion_ci(CONFIDENCE)
    low, high = (scale * (2 * float(bound) - 1) for bound in (interval.low, interval.high))
    return 100 * (one - other) / images, low, high, float(test.pvalue)
