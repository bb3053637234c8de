"""One pixel set to black or white: foolbox 1 and 2 had this attack, foolbox 3 has not."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measures.attacks.candidates import CandidateAttack
from benchmarks.measures.attacks.named import NamedAttack


class SinglePixelAttack(CandidateAttack):
    """Sets all channels of one pixel to the lowest, then to the highest value.

    foolbox 1 tried the pixels in random order and stopped at the first that worked. Here all of
    them are tried and the closest in L2 is kept, so that the perturbation is minimal; whether an
    image can be fooled at all is the same.

    Args:
        max_pixels: how many pixels of each image are tried, drawn at random without repetition.

    Example:
        >>> SinglePixelAttack(max_pixels=10)
        SinglePixelAttack(max_pixels=10)
    """

    def __init__(self, *, max_pixels: int = 1000) -> None:
        self.max_pixels = max_pixels

    def candidates(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        """One batch per tried pixel and value; every image has its own order of pixels."""
        height, width = images.shape[2:]
        order = torch.rand(len(images), height * width, device=images.device).argsort(1)
        rows = torch.arange(len(images), device=images.device)
        for places in order[:, : self.max_pixels].unbind(1):
            for value in bounds:
                candidate = images.clone()
                candidate[rows, :, places // width, places % width] = value
                yield candidate


ATTACKS = (
    NamedAttack(
        name="SinglePixelAttack", title="Single pixel", panel=1, family="single pixel",
        random=True, fixed_size=True,
        make=lambda effort: SinglePixelAttack(max_pixels=effort.max_pixels),
    ),
)  # fmt: skip
