"""Random numbers that depend on the image, the repetition and the step, and on nothing else.

So it makes no difference which images share a batch, which steps are left out and where a search
was interrupted; and two networks that are compared meet the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Draws:
    """The random numbers of some images in one repetition of an attack.

    Args:
        images: number of each image, (N,).
        seed: of the whole run.
        repeat: number of the repetition.

    Example:
        >>> one, both = Draws([7], seed=0), Draws([3, 7], seed=0)
        >>> bool((one.uniform([0], [5], (2, 2)) == both.uniform([1], [5], (2, 2))).all())
        True
    """

    def __init__(self, images: Sequence[int], *, seed: int, repeat: int = 0) -> None:
        self._images = list(images)
        self._seed, self._repeat = seed, repeat

    def uniform(self, rows: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Between 0 and 1, (len(rows), *shape), for each image at its own step."""
        return self._stacked(rows, steps, lambda random: random.random(shape, np.float32))

    def normal(self, rows: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Of deviation 1, (len(rows), *shape), for each image at its own step."""
        return self._stacked(rows, steps, lambda random: random.standard_normal(shape, np.float32))

    def order(self, row: int, step: int, count: int) -> list[int]:
        """The numbers below `count`, shuffled."""
        found: list[int] = self._generator(row, step).permutation(count).tolist()
        return found

    def _stacked(
        self,
        rows: Sequence[int],
        steps: Sequence[int],
        draw: Callable[[np.random.Generator], Any],
    ) -> Tensor:
        pairs = zip(rows, steps, strict=True)
        return torch.from_numpy(np.stack([draw(self._generator(*pair)) for pair in pairs]))

    def _generator(self, row: int, step: int) -> np.random.Generator:
        # the lowest word of the counter is the generator's own
        counter = [0, step, self._repeat, self._images[row]]
        return np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
