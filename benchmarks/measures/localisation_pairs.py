"""Two networks' heatmaps on the same images: differences with 95 % intervals over the images.

The interval says how sure a difference is of these two trained networks. How trainings differ is
seen over runs only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.measures.localisation import OWN_VALUES, Array, Comparison

CONFIDENCE = 0.95
_RESAMPLES = 2000
# of the bootstrap, kept small for its memory
_BATCH = 50


@dataclass(frozen=True)
class Difference:
    """One network's figure less another's, with its interval; nan where undefined.

    Args:
        value: a difference of shares.
        low, high: the ends of the 95 % interval over images.
    """

    value: float
    low: float
    high: float


NOTHING = Difference(math.nan, math.nan, math.nan)


def differences(one: Comparison, other: Comparison, *, seed: int = 0) -> dict[str, Difference]:
    """`other` less `one`, of every figure of `Localisation`.

    Args:
        one, other: of the same images, in the same order.
        seed: of the bootstrap.

    Returns:
        By the figure's name: a paired t interval, or for `precision` and `recall`, which are counted
        over all images' pixels, a paired bootstrap over images.

    Example:
        >>> import torch
        >>> from benchmarks.measures.localisation import compare
        >>> objects = torch.rand(30, 6, 6) > 0.5
        >>> same = compare(objects.float(), objects)
        >>> differences(same, same)["pxap"]
        Difference(value=0.0, low=0.0, high=0.0)
    """
    pairs = {name: paired(getattr(one, name), getattr(other, name)) for name in OWN_VALUES}
    counted = {
        "precision": _resampled(one.hits, one.misplaced, other.hits, other.misplaced, seed=seed),
        "recall": _resampled(one.hits, one.missed, other.hits, other.missed, seed=seed),
    }
    return {**counted, **pairs}


def paired(one: Array, other: Array) -> Difference:
    """The mean of the images' differences, with a paired t interval.

    Args:
        one, other: (N,); images where one of them is nan are left out.
    """
    change = np.asarray(other, dtype=float) - np.asarray(one, dtype=float)
    change = change[~np.isnan(change)]
    if not len(change):
        return NOTHING
    middle = float(change.mean())
    if len(change) < 2:
        return Difference(middle, math.nan, math.nan)
    error = change.std(ddof=1) / math.sqrt(len(change))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(change) - 1) * error)
    return Difference(middle, middle - half, middle + half)


def _resampled(
    hits: Array, wrong: Array, other_hits: Array, other_wrong: Array, *, seed: int
) -> Difference:
    """Of hits / (hits + wrong), both summed over images that are drawn with replacement."""

    def change(h: Array, w: Array, oh: Array, ow: Array, axis: int = -1) -> Array:
        return _ratio(oh.sum(axis), ow.sum(axis)) - _ratio(h.sum(axis), w.sum(axis))

    counts = (hits, wrong, other_hits, other_wrong)
    value = float(change(*counts))
    if len(hits) < 2 or math.isnan(value):
        return Difference(value, math.nan, math.nan)
    found = stats.bootstrap(
        counts, change, paired=True, vectorized=True, n_resamples=_RESAMPLES, batch=_BATCH,
        confidence_level=CONFIDENCE, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Difference(value, float(low), float(high))


def _ratio(hits: Array, wrong: Array) -> Array:
    whole = np.asarray(hits + wrong, dtype=float)
    ratio = np.full(whole.shape, math.nan)
    np.divide(hits, whole, out=ratio, where=whole > 0)
    return ratio
