"""Attacks that try changed images in an order, until one is misclassified."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measures.attacks.search import Search, Target, l2

# How many questions are at least in flight, as far as there are any: few images ask ahead.
_IN_FLIGHT = 32
# Noise of one strength differs in its norm by less: beyond it no later step is below a limit.
SURELY_FARTHER = 1.2


class OrderedCandidates(ABC):
    """Numbered candidates of each image, of which the first that is misclassified is sought."""

    @abstractmethod
    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        """The candidates `steps` (M,), counted from 1, of the images `rows` (M,), within [0, 1]."""

    def first(
        self, target: Target, begin: Tensor, end: Tensor, *, stride: int = 1, rising: bool = True
    ) -> Found:
        """Ask about every `stride`-th candidate, and about the last.

        Candidates that are the image itself, or not closer than the limit, count as not
        misclassified: the network isn't asked.

        Args:
            target: whose images are changed.
            begin, end: (N,) the first and the last candidate of each image.
            stride: from one candidate to the next.
            rising: an image whose candidates are beyond its limit has no closer ones to come.
        """
        return _Scan(self, target, begin, end, stride, rising).run()


@dataclass(frozen=True, eq=False)
class Found:
    """What a scan ended with.

    Args:
        steps: (N,) the misclassified candidate's number; 0 where there is none.
        images: (N, C, H, W) the candidates; the clean image where there is none.
    """

    steps: Tensor
    images: Tensor

    def closer(self, other: Found) -> Found:
        """This one's candidates, and the other's where this one has none."""
        own = self.steps > 0
        steps = torch.where(own, self.steps, other.steps)
        return Found(steps, torch.where(own[:, None, None, None], self.images, other.images))


class _Scan:
    """One pass over the candidates."""

    def __init__(
        self, search: OrderedCandidates, target: Target, begin: Tensor, end: Tensor, stride: int,
        rising: bool,
    ) -> None:  # fmt: skip
        self.search, self.target = search, target
        self.next, self.end, self.stride, self.rising = begin.clone(), end, stride, rising
        self.steps = torch.zeros_like(begin)
        self.images = target.images.clone()

    def run(self) -> Found:
        while len(active := (self.next <= self.end).nonzero().flatten()):
            self._ask(active)
        return Found(self.steps, self.images)

    def _ask(self, active: Tensor) -> None:
        """The next candidates of each image that has any; several where few images are left."""
        ahead = max(1, _IN_FLIGHT // len(active))
        offsets = self.stride * torch.arange(ahead, device=active.device)
        steps = self.next[active, None] + offsets
        last = self.end[active, None].expand_as(steps)
        # beyond the last comes the last, once
        steps = steps.where((steps <= last) | (steps - self.stride >= last), last)
        known = steps <= last
        rows = active[:, None].expand_as(steps)
        fooled, beyond = torch.zeros_like(known), torch.zeros_like(known)
        candidates = self.search.candidates(self.target, rows[known], steps[known])
        far, limit = (
            l2(candidates - self.target.images[rows[known]]),
            self.target.limit[rows[known]],
        )
        asked = (far > 0) & (far < limit)
        answers = torch.zeros_like(asked)
        if asked.any():
            answers[asked] = self.target.network.fooled(candidates[asked], rows[known][asked])
        fooled[known], beyond[known] = answers, far >= SURELY_FARTHER * limit
        self._note(active, steps, known, fooled, candidates)
        self.next[active] = steps[:, -1] + self.stride
        # the step over the end would miss the last candidate
        missed = (self.next[active] > self.end[active]) & (steps[:, -1] < self.end[active])
        self.next[active[missed]] = self.end[active[missed]]
        over = fooled.any(1) | (beyond.any(1) if self.rising else False)
        self.next[active[over]] = self.end[active[over]] + 1

    def _note(
        self, active: Tensor, steps: Tensor, known: Tensor, fooled: Tensor, candidates: Tensor
    ) -> None:
        place = torch.full_like(steps, -1)
        place[known] = torch.arange(len(candidates), device=steps.device)
        won, column = fooled.any(1), fooled.int().argmax(1)
        self.steps[active[won]] = steps[won, column[won]]
        self.images[active[won]] = candidates[place[won, column[won]]]


class LineSearch(OrderedCandidates, Search):
    """Candidates of growing strength along a path; the weakest that is misclassified counts.

    First every `stride`-th strength is tried, then those between the first of these that fools the
    network and the one before it. What is found is the same as in a search step by step unless the
    network errs for less than `stride` strengths on the way, and is right again.

    Args:
        steps: how many strengths there are.
        stride: of the first pass.
    """

    stride = 16

    def __init__(self, *, steps: int = 1000) -> None:
        self.steps = steps

    def search(self, target: Target) -> Tensor:
        return self.along(target, torch.full_like(target.labels, self.steps))

    def along(self, target: Target, last: Tensor) -> Tensor:
        """The weakest misclassified candidate of each image, up to the strength `last` (N,)."""
        begin = last.clamp(max=self.stride)
        coarse = self.first(target, begin.clamp(min=1), last, stride=self.stride)
        # where none was found there is nothing between
        before = (coarse.steps - self.stride + 1).clamp(min=1)
        return self.first(target, before, coarse.steps - 1).closer(coarse).images
