"""Pixels turned black or white at random: foolbox 3's search, and foolbox 2's under L-infinity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import SURELY_FARTHER
from benchmarks.measures.attacks.search import Search, Target, l2

_REPETITIONS = 10


class SaltAndPepperNoiseAttack(Search):
    """More noise until the image is misclassified, then less, within bounds that become narrower.

    The search is foolbox 3's. Noise that is not closer than the closest found is not asked about,
    and a repetition is over where its first noise that could fool the network is no closer than
    what was found before.

    Args:
        steps: how often noise is drawn.
    """

    def __init__(self, *, steps: int = 1000) -> None:
        self.steps = steps

    def varies(self, size: Sequence[int]) -> bool:
        return True

    def search(self, target: Target) -> Tensor:
        found, nearest = target.images.clone(), target.limit.clone()
        searching = torch.ones_like(target.labels, dtype=torch.bool)
        low, high = torch.zeros_like(nearest), torch.ones_like(nearest)
        stride = high / self.steps
        share = stride
        for step in range(self.steps):
            noisy = with_noise(target, step, share)
            far = l2(noisy - target.images)
            searching &= ~((far >= SURELY_FARTHER * target.limit) & (low == 0))
            if not searching.any():
                break
            better = ask(target, noisy, searching & (far < nearest))
            found[better] = noisy[better]
            nearest = torch.where(better, far, nearest)
            low = torch.where(better, 0.5 * share, low)
            # a little higher: less noise is not always closer
            high = torch.where(better, (share * 1.2).clamp(max=1), high)
            stride = torch.where(better, (high - low) / (self.steps - step), stride)
            again = better | (share == high)
            share = (torch.where(again, low, share) + stride).minimum(high)
        return found


class AuthorsSaltAndPepperNoiseAttack(Search):
    """foolbox 2's search under the L-infinity distance: only a smaller largest change counts.

    A pixel that went from black to white is the largest change that there can be, so that the
    search ends with the first noise that works.

    Args:
        steps: how many shares of changed pixels there are; each of ten repetitions tries them.
    """

    def __init__(self, *, steps: int = 100) -> None:
        self.steps = steps

    def varies(self, size: Sequence[int]) -> bool:
        return True

    def search(self, target: Target) -> Tensor:
        found, largest = target.images.clone(), torch.full_like(target.limit, torch.inf)
        high = torch.ones_like(largest)
        steps = min(self.steps, target.images[0, 0].numel())
        for repetition in range(_REPETITIONS):
            searching = torch.ones_like(target.labels, dtype=torch.bool)
            for step in range(1, steps + 1):
                # nothing is left to find where the largest change can't be smaller
                if not (searching & (largest > 0)).any():
                    break
                share = high * step / steps
                noisy = with_noise(target, repetition * steps + step, share)
                size = (noisy - target.images).flatten(1).abs().amax(1)
                better = ask(target, noisy, searching & (size < largest))
                found[better] = noisy[better]
                largest = torch.where(better, size, largest)
                high = torch.where(better, (share * 1.2).clamp(max=1), high)
                searching &= ~better
        return found


def with_noise(target: Target, step: int, shares: Tensor) -> Tensor:
    """The images with shares (N,) of their pixels changed, all channels alike, (N, C, H, W)."""
    count, (height, width) = len(shares), target.images.shape[2:]
    drawn = target.draws.uniform(range(count), [step] * count, (1, height, width))
    drawn = drawn.to(target.images)
    half = shares[:, None, None, None] / 2
    return (target.images + (drawn >= 1 - half).float() - (drawn < half).float()).clamp(0, 1)


def ask(target: Target, candidates: Tensor, worthwhile: Tensor) -> Tensor:
    """Which candidates, one of each image, are misclassified: only the worthwhile are asked about."""
    answers = torch.zeros_like(worthwhile)
    rows = worthwhile.nonzero().flatten()
    if len(rows):
        answers[rows] = target.network.fooled(candidates[rows], rows)
    return answers


ATTACKS = (
    NamedAttack(
        name="Salt&PepperNoiseAttack", title="Salt & pepper noise", panel=2, family="uncorrelated",
        make=lambda effort: SaltAndPepperNoiseAttack(steps=effort.steps),
        # foolbox 2 has 100 steps where the others have 1000
        authors=lambda effort: AuthorsSaltAndPepperNoiseAttack(steps=max(1, effort.steps // 10)),
    ),
)  # fmt: skip
