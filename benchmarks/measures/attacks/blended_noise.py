"""The image blended with uniform noise: foolbox's linear search, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import LineSearch
from benchmarks.measures.attacks.search import Search, Target


class BlendedUniformNoiseAttack(Search):
    """Blends each image with a noise image that is of another class.

    As many noise images are drawn as there are images. An image whose own is of its class takes
    the next in the row; where none of them serves, others are drawn.

    Args:
        directions: at most so many noise images are drawn for each image.
        steps: how many strengths are tried.
    """

    def __init__(self, *, directions: int = 1000, steps: int = 1000) -> None:
        self.directions = directions
        self.steps = steps

    def search(self, target: Target) -> Tensor:
        noise, usable = self._noise(target)
        return _Blending(noise, self.steps).along(target, usable * self.steps)

    def varies(self, size: Sequence[int]) -> bool:
        return True

    def _noise(self, target: Target) -> tuple[Tensor, Tensor]:
        """One noise image for each image (N, C, H, W), and where there is one (N,)."""
        count, shape = len(target.labels), target.images.shape[1:]
        chosen = torch.zeros_like(target.images)
        usable = torch.zeros(count, dtype=torch.bool, device=chosen.device)
        rows = list(range(count))
        for step in range(1 + (self.directions - 1) // count):
            drawn = target.draws.uniform(rows, [step] * count, shape).to(chosen)
            taken_for = target.network.classes(drawn)
            for shift in range(min(count, self.directions)):
                own = torch.arange(count, device=chosen.device).add(shift) % count
                serves = ~usable & (taken_for[own] != target.labels)
                chosen[serves] = drawn[own[serves]]
                usable |= serves
                if usable.all():
                    return chosen, usable
        return chosen, usable


class _Blending(LineSearch):
    """Towards noise that is known to be misclassified."""

    def __init__(self, noise: Tensor, steps: int) -> None:
        super().__init__(steps=steps)
        self.noise = noise

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        share = (steps / self.steps)[:, None, None, None]
        # a weighted mean leaves [0, 1] by a rounding error
        return ((1 - share) * target.images[rows] + share * self.noise[rows]).clamp(0, 1)


ATTACKS = (
    NamedAttack(
        name="BlendedUniformNoiseAttack", title="Blended uniform noise", panel=6,
        family="uncorrelated",
        make=lambda effort: BlendedUniformNoiseAttack(
            directions=effort.directions, steps=effort.steps
        ),
    ),
)  # fmt: skip
