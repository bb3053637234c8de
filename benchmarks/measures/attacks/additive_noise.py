"""Noise of growing strength: foolbox 3 has it with a fixed L2 norm only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import LineSearch
from benchmarks.measures.attacks.search import Target, l2

# Noise at less than this share of the step that fooled the network, so at half its norm, is taken
# to be harmless.
_HARMLESS = 0.7


class AdditiveNoiseAttack(LineSearch):
    """Adds fresh noise at each step of a linear search, until the image is misclassified.

    As in foolbox 1 and 2, step e of the search, from 1/steps to 1, draws noise whose scale is
    already e and multiplies it by e again: the strength grows with the square of e.

    First every `stride`-th step is tried, then the steps before the one that fools the network, down
    to noise of half its norm; where one of these does, those below it in the same way.

    Args:
        steps: how many strengths are tried.
    """

    def search(self, target: Target) -> Tensor:
        whole = torch.full_like(target.labels, self.steps)
        begin = whole.clamp(max=self.stride)
        coarse = self.first(target, begin, whole, stride=self.stride)
        # a repetition ends where its noise is no closer than what was found before
        reached = torch.where(coarse.steps > 0, coarse.steps, self._limits(target))
        found = coarse
        tried = reached
        while True:
            begin = (_HARMLESS * reached).long().clamp(min=1)
            weaker = self.first(target, begin, tried - 1)
            if not weaker.steps.any():
                return found.images
            found = weaker.closer(found)
            # where nothing was found there is nothing left to try
            tried = torch.where(weaker.steps > 0, begin, 0)
            reached = torch.where(weaker.steps > 0, weaker.steps, reached)

    def varies(self, size: Sequence[int]) -> bool:
        return True

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        """The images under their steps' noise, clipped."""
        noise = self.noise(target, rows.tolist(), steps.tolist()).to(target.images)
        strength = ((steps / self.steps) ** 2)[:, None, None, None]
        return (target.images[rows] + strength * noise).clamp(0, 1)

    @abstractmethod
    def noise(self, target: Target, rows: Sequence[int], steps: Sequence[int]) -> Tensor:
        """Noise of full strength for bounds that are 1 apart; it has the images' shape."""

    def _limits(self, target: Target) -> Tensor:
        """The step of each image (N,) whose noise has the norm of what was found before."""
        low = torch.ones_like(target.labels)
        high = torch.where(target.limit.isfinite(), self.steps, 1)
        rows = torch.arange(len(low), device=low.device)
        while (low < high).any():
            middle = (low + high) // 2
            far = l2(self.candidates(target, rows, middle) - target.images)
            high = torch.where(far >= target.limit, middle, high)
            low = torch.where(far >= target.limit, low, (middle + 1).minimum(high))
        return high


class AdditiveUniformNoiseAttack(AdditiveNoiseAttack):
    """Uniform noise between -1 and 1 at full strength."""

    def noise(self, target: Target, rows: Sequence[int], steps: Sequence[int]) -> Tensor:
        return target.draws.uniform(rows, steps, target.images.shape[1:]) * 2 - 1


class AdditiveGaussianNoiseAttack(AdditiveNoiseAttack):
    """Normal noise with the uniform noise's standard deviation, 1 / sqrt(3) at full strength."""

    def noise(self, target: Target, rows: Sequence[int], steps: Sequence[int]) -> Tensor:
        return target.draws.normal(rows, steps, target.images.shape[1:]) / 3**0.5


ATTACKS = (
    NamedAttack(
        name="AdditiveGaussianNoiseAttack", title="Additive Gaussian noise", panel=4,
        family="uncorrelated",
        make=lambda effort: AdditiveGaussianNoiseAttack(steps=effort.steps),
    ),
    NamedAttack(
        name="AdditiveUniformNoiseAttack", title="Additive uniform noise", panel=5,
        family="uncorrelated",
        make=lambda effort: AdditiveUniformNoiseAttack(steps=effort.steps),
    ),
)  # fmt: skip
