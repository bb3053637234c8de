"""Accuracy loss over the L2 norm of a perturbation, and the comparison of two such curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs.jobs import Row

Floats = NDArray[np.float64]
# The losses of accuracy, in points, at which curves are compared.
LEVELS = (10, 25, 50, 75)
RESAMPLES = 500
CONFIDENCE = 0.95
CRITERION = (
    "TD's L2 over BU's at 10, 25, 50 and 75 points of accuracy loss, median of those that either "
    "network reaches (where none is, and for single pixels: the final losses); beyond the spread = "
    f"the {CONFIDENCE:.0%} interval of a bootstrap over the images, paired, and over the runs, "
    "excludes equality"
)


@dataclass(frozen=True)
class Curve:
    """One network under one attack.

    Args:
        runs: per run the minimal L2 per image, (N,); inf where the image was never fooled or was
            wrong from the start, and so takes no part in the loss.
    """

    runs: tuple[Floats, ...]

    @staticmethod
    def of(rows: Iterable[Row]) -> Curve:
        """From the rows of one network under one attack, one row per run."""
        return Curve(tuple(_distances(row["l2"]) for row in rows))

    @property
    def points(self) -> tuple[Floats, Floats]:
        """L2 in rising order from 0, and the loss in percentage points up to it; all runs."""
        pooled = np.concatenate(self.runs)
        reached = np.sort(pooled[np.isfinite(pooled)])
        loss = 100 * np.arange(1, len(reached) + 1) / len(pooled)
        return np.concatenate([[0.0], reached]), np.concatenate([[0.0], loss])

    @property
    def plateau(self) -> float:
        """The loss when every perturbation that was found is allowed, in percentage points."""
        return float(self.points[1][-1])

    def l2_at(self, level: float) -> float | None:
        """The first L2 at which the loss reaches a level; None where it never does.

        Example:
            >>> Curve((np.array([1.0, 2.0, np.inf, 3.0]),)).l2_at(50)
            2.0
        """
        found = float(self._l2_at([level], [np.ones((1, len(run))) for run in self.runs])[0, 0])
        return found if np.isfinite(found) else None

    def _l2_at(self, levels: Sequence[float], weights: Sequence[Floats]) -> Floats:
        # weights: per run (R, N), how often each image counts; the result is (R, levels)
        pooled, weight = np.concatenate(self.runs), np.concatenate(weights, axis=1)
        order = np.argsort(pooled, kind="stable")
        loss = np.cumsum(weight[:, order], axis=1)
        loss *= 100 / loss[:, -1:]
        # a share like 7/10 of 100 must reach 70 whatever its last digit
        first = [np.argmax(loss >= level - 1e-9, axis=1) for level in levels]
        return np.stack([pooled[order][index] for index in first], axis=1)

    def _plateau(self, weights: Sequence[Floats]) -> Floats:
        pooled, weight = np.concatenate(self.runs), np.concatenate(weights, axis=1)
        return np.asarray(100 * weight[:, np.isfinite(pooled)].sum(1) / weight.sum(1))


@dataclass(frozen=True)
class Comparison:
    """TD against BU under one attack; an advantage above 0 means that TD is the more robust.

    Args:
        measure: `l2 ratio`: the advantage is log(TD's L2 / BU's); `loss difference`: BU's final
            loss minus TD's, in percentage points, where neither network reaches 10.
        advantage: the estimate from all images.
        low, high: the interval of the bootstrap; nan where there are no single images.
    """

    measure: Literal["l2 ratio", "loss difference"]
    advantage: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """TD is the more robust, beyond the spread."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """BU is the more robust, beyond the spread."""
        return self.high < 0

    @property
    def state(self) -> bool | None:
        """True: better; False: worse; None: within the spread."""
        return True if self.better else (False if self.worse else None)

    def __str__(self) -> str:
        if np.isnan(self.low):
            return self._show(self.advantage)
        return f"{self._show(self.advantage)} [{self._show(self.low)}, {self._show(self.high)}]"

    def _show(self, value: float) -> str:
        if self.measure == "loss difference":
            return f"{value:+.1f} points"
        if np.isinf(value):  # only one of the two networks loses that much
            return "×∞" if value > 0 else "×0"
        return f"×{np.exp(value):.2f}"


def compare(
    bu: Curve, td: Curve, *, fixed_size: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """How much more robust TD is than BU.

    Args:
        bu, td: of the same model and data, with the same images in the same order.
        fixed_size: the attack's L2 is what it is: the final losses are compared.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    lengths = {len(run) for run in (*bu.runs, *td.runs)}
    images = {
        n: rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
        for n in sorted(lengths)
    }

    def resampled(curve: Curve) -> list[Floats]:
        count = len(curve.runs)
        runs = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        return [images[len(run)] * runs[:, [i]] for i, run in enumerate(curve.runs)]

    once = [[np.ones((1, len(run))) for run in curve.runs] for curve in (bu, td)]
    several = [resampled(bu), resampled(td)]
    tail = 100 * (1 - CONFIDENCE) / 2
    by_loss = fixed_size or bool(np.isnan(_log_ratio(bu, td, *once)[0]))
    statistic = _saved if by_loss else _log_ratio
    # a resample in which neither network loses enough shows no difference
    values = np.nan_to_num(statistic(bu, td, *several), nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, high = np.percentile(values, [tail, 100 - tail], method="nearest")
    advantage = float(statistic(bu, td, *once)[0])
    return Comparison(measure_of(by_loss), advantage, float(low), float(high))


def measure_of(by_loss: bool) -> Literal["l2 ratio", "loss difference"]:
    return "loss difference" if by_loss else "l2 ratio"


def _log_ratio(bu: Curve, td: Curve, bu_weights: Any, td_weights: Any) -> Floats:
    return median_log_ratio(bu._l2_at(LEVELS, bu_weights), td._l2_at(LEVELS, td_weights))


def _saved(bu: Curve, td: Curve, bu_weights: Any, td_weights: Any) -> Floats:
    return bu._plateau(bu_weights) - td._plateau(td_weights)


def median_log_ratio(bu: Floats, td: Floats) -> Floats:
    # (R, levels) to (R,); a level that neither reaches is left out, nan where that is every one
    with np.errstate(invalid="ignore", divide="ignore"):
        # an L2 of 0 was rounded from less than 0.00005
        ratios = np.log(np.maximum(td, 1e-4)) - np.log(np.maximum(bu, 1e-4))
    ordered = np.sort(ratios, axis=1)  # nan goes last
    count = np.sum(~np.isnan(ratios), axis=1)
    index = np.arange(len(ratios))
    lower = ordered[index, np.maximum((count - 1) // 2, 0)]
    upper = ordered[index, np.minimum(count // 2, ratios.shape[1] - 1)]
    with np.errstate(invalid="ignore"):
        middle = np.where(lower == upper, lower, (lower + upper) / 2)
    return np.where(count > 0, middle, np.nan)


def _distances(values: Any) -> Floats:
    found = np.array([np.inf if value is None else value for value in values], dtype=float)
    found[found < 0] = np.inf
    return found
