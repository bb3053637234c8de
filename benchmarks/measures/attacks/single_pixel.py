"""One pixel set to black or white: foolbox 1 and 2 had this attack, foolbox 3 has not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import OrderedCandidates
from benchmarks.measures.attacks.search import Search, Target


class SinglePixelAttack(Search):
    """Sets all channels of one pixel to the lowest or to the highest value.

    The changes are tried from the smallest to the largest; the first that works counts. foolbox 1
    and 2 tried the pixels in random order. Whether an image can be fooled at all is the same.

    Args:
        max_pixels: how many pixels of each image are tried, drawn at random without repetition.
        closest: from the smallest change to the largest, instead of in random order.
    """

    def __init__(self, *, max_pixels: int = 1000, closest: bool = True) -> None:
        self.max_pixels = max_pixels
        self.closest = closest

    def varies(self, size: Sequence[int]) -> bool:
        return not self.closest or self.max_pixels < size[1] * size[2]

    def search(self, target: Target) -> Tensor:
        changes = _Changes(self._order(target))
        begin = torch.ones_like(target.labels)
        end = torch.full_like(begin, changes.order.shape[1])
        return changes.first(target, begin, end, rising=self.closest).images

    def _order(self, target: Target) -> Tensor:
        """Per image (N, changes), in order: twice the pixel's number, plus 1 for white."""
        count, _, height, width = target.images.shape
        pixels = min(self.max_pixels, height * width)
        drawn = [target.draws.order(row, 0, height * width)[:pixels] for row in range(count)]
        places = torch.tensor(drawn, device=target.images.device)
        order = torch.stack([2 * places, 2 * places + 1], 2).flatten(1)
        if not self.closest:
            return order
        flat = target.images.flatten(2)
        far = torch.stack([_far(flat), _far(1 - flat)], 2).flatten(1)
        return order.gather(1, far.gather(1, order).argsort(dim=1, stable=True))


def _far(flat: Tensor) -> Tensor:
    """Norms (N, pixels) over the channels of (N, C, pixels)."""
    norms: Tensor = flat.norm(dim=1)
    return norms


class _Changes(OrderedCandidates):
    """The changes of each image in an order that is known."""

    def __init__(self, order: Tensor) -> None:
        self.order = order

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        change = self.order[rows, steps - 1]
        candidates = target.images[rows].flatten(2)
        chosen = torch.arange(len(rows), device=rows.device)
        candidates[chosen, :, change // 2] = (change % 2).to(candidates)[:, None]
        return candidates.view(len(rows), *target.images.shape[1:])


ATTACKS = (
    NamedAttack(
        name="SinglePixelAttack", title="Single pixel", panel=1, family="single pixel",
        fixed_size=True, make=lambda effort: SinglePixelAttack(max_pixels=effort.max_pixels),
        authors=lambda effort: SinglePixelAttack(max_pixels=effort.max_pixels, closest=False),
    ),
)  # fmt: skip
