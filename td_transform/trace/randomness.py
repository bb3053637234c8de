"""Random numbers that a forward draws: the recording draws them too, and nobody else's change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def generators_kept() -> Iterator[Callable[[], str | None]]:
    """The global generators are left as they were found.

    Yields:
        Says whose numbers were drawn since, where these are none that torch records.
    """
    python, of_numpy = random.getstate(), np.random.get_state()

    def drawn() -> str | None:
        if random.getstate() != python:
            return "Python's random module"
        return None if _same(np.random.get_state(), of_numpy) else "numpy's random module"

    try:
        with torch.random.fork_rng([]):
            yield drawn
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)


def _same(state: Any, other: Any) -> bool:
    return all(map(np.array_equal, state, other))
