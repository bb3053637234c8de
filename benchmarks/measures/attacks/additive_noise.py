"""Noise of growing strength: foolbox 3 has it with a fixed L2 norm only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measures.attacks.candidates import CandidateAttack
from benchmarks.measures.attacks.named import NamedAttack


class AdditiveNoiseAttack(CandidateAttack):
    """Adds fresh noise at each step of a linear search, until the image is misclassified.

    As in foolbox 1 and 2, step e of the search, from 1/steps to 1, draws noise whose scale is
    already e and multiplies it by e again: the strength grows with the square of e.

    Args:
        steps: how many strengths are tried.
    """

    growing = True

    def __init__(self, *, steps: int = 1000) -> None:
        self.steps = steps

    @abstractmethod
    def noise(self, images: Tensor) -> Tensor:
        """Noise of full strength for bounds that are 1 apart; it has the images' shape."""

    def candidates(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        """The images under weak, then ever stronger noise, clipped."""
        low, high = bounds
        for step in range(1, self.steps + 1):
            strength = (step / self.steps) ** 2 * (high - low)
            yield (images + strength * self.noise(images)).clamp(low, high)


class AdditiveUniformNoiseAttack(AdditiveNoiseAttack):
    """Uniform noise between -1 and 1 at full strength.

    Example:
        >>> AdditiveUniformNoiseAttack(steps=100)
        AdditiveUniformNoiseAttack(steps=100)
    """

    def noise(self, images: Tensor) -> Tensor:
        return torch.rand_like(images) * 2 - 1


class AdditiveGaussianNoiseAttack(AdditiveNoiseAttack):
    """Normal noise with the uniform noise's standard deviation, 1 / sqrt(3) at full strength."""

    def noise(self, images: Tensor) -> Tensor:
        return torch.randn_like(images) / 3**0.5


ATTACKS = (
    NamedAttack(
        name="AdditiveGaussianNoiseAttack", title="Additive Gaussian noise", panel=4, family="uncorrelated",
        random=True, make=lambda effort: AdditiveGaussianNoiseAttack(steps=effort.steps),
    ),
    NamedAttack(
        name="AdditiveUniformNoiseAttack", title="Additive uniform noise", panel=5, family="uncorrelated",
        random=True, make=lambda effort: AdditiveUniformNoiseAttack(steps=effort.steps),
    ),
)  # fmt: skip
