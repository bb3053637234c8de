"""How long a run takes that others ran before."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

# how long threads of torch spin after their last operator, and more
_SETTLED = 0.01


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """The time of a run that ends when its result is there.

    On one thread the processor's time, which leaves out what others took of it; otherwise by the
    clock. Runs of its own go first: caches hold what another run left there, and the threads of
    another runtime still spin for a while.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    settled = time.perf_counter() + _SETTLED
    run()
    while time.perf_counter() < settled:
        run()
    start = clock()
    run()
    return clock() - start
