"""Times measured in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from td_transform.inference.timing import seconds

Run = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Seconds, and how they compare with the baseline's of the same round.

    Args:
        seconds: the median.
        ratio: the median of the rounds' ratios.
        low, high: the quartiles of the rounds' ratios.
    """

    seconds: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} [{self.low:.2f}-{self.high:.2f}]"


def in_turn(runs: Mapping[str, Run], device: torch.device, *, rounds: int) -> dict[str, Ratio]:
    """The times of several runs; the first is the baseline."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(partial(_finished, run, device), device))
    baseline = next(iter(times.values()))
    return {name: _ratio(own, baseline) for name, own in times.items()}


def _finished(run: Run, device: torch.device) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ratio(own: list[float], baseline: list[float]) -> Ratio:
    ratios = [mine / other for mine, other in zip(own, baseline, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(statistics.median(own), middle, low, high)
