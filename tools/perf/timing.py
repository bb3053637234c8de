"""Times measured in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Run = Callable[[], object]

# how long threads of torch spin after their last operator, and more
_SETTLED = 0.01


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
    """The times of several runs; the first is the baseline. A first round doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = _timed(run, device)
            if number:
                times[name].append(seconds)
    baseline = next(iter(times.values()))
    return {name: _ratio(own, baseline) for name, own in times.items()}


def _timed(run: Run, device: torch.device) -> float:
    """On one thread the processor's time, which leaves out what others took of it.

    On more threads runs of its own go first: those of another run still spin for a while.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    settled = time.perf_counter() + _SETTLED
    while not alone and time.perf_counter() < settled:
        run()
    _finish(device)
    start = clock()
    run()
    _finish(device)
    return clock() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ratio(own: list[float], baseline: list[float]) -> Ratio:
    ratios = [mine / other for mine, other in zip(own, baseline, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(statistics.median(own), middle, low, high)
