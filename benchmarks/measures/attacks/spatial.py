"""Rotations and shifts with the limits and the grid that foolbox 1 and 2 had by default."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measures.attacks.candidates import CandidateAttack
from benchmarks.measures.attacks.named import NamedAttack


class SpatialAttack(CandidateAttack):
    """Tries a grid of rotations and shifts (Engstrom et al., arXiv 1712.02779).

    foolbox 3's own attack stops at the first of the grid that works, which is among the largest,
    and so did the paper's; here the closest in L2 of the whole grid is kept. Whether an image can
    be fooled at all is the same, its L2 is smaller.

    Args:
        max_shift: pixels, along both axes and in both directions.
        max_rotation: degrees, in both directions; with 0 the images are only shifted.
        grid: how many values each of the two shifts and the rotation takes.

    Example:
        >>> SpatialAttack(max_rotation=0, grid=5)
        SpatialAttack(max_shift=5, max_rotation=0, grid=5)
    """

    def __init__(self, *, max_shift: float = 5, max_rotation: float = 5, grid: int = 10) -> None:
        self.max_shift = max_shift
        self.max_rotation = max_rotation
        self.grid = grid

    def candidates(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        """The images rotated about their centre and shifted; what comes in is the lowest value."""
        shifts = torch.linspace(-self.max_shift, self.max_shift, self.grid).tolist()
        degrees = torch.linspace(-self.max_rotation, self.max_rotation, self.grid).tolist()
        low, high = bounds
        for angle, down, right in itertools.product(
            degrees if self.max_rotation else [0.0], shifts, shifts
        ):
            moved = rotate_and_shift(images - low, angle, down=down, right=right) + low
            yield moved.clamp(low, high)


def rotate_and_shift(images: Tensor, degrees: float, *, down: float, right: float) -> Tensor:
    """Rotate about the centre, then shift by pixels; bilinear, with zeros around the image.

    Args:
        images: (N, C, H, W).
        degrees: clockwise.
        down, right: pixels.

    Example:
        >>> image = torch.eye(3)[None, None]
        >>> rotate_and_shift(image, 0.0, down=1, right=0)[0, 0].tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    height, width = images.shape[2:]
    angle = math.radians(degrees)
    # for a pixel of the result, in pixels from the centre (x, y): where it comes from
    turn = images.new_tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    offset = -turn @ images.new_tensor([[right], [down]])
    # affine_grid counts half the width and half the height as 1
    half = images.new_tensor([width / 2, height / 2])
    theta = torch.cat([turn * half / half[:, None], offset / half[:, None]], dim=1)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


ATTACKS = (
    NamedAttack(
        name="SpatialAttack", title="Spatial", panel=9, family="spatial",
        random=False, make=lambda effort: SpatialAttack(grid=effort.grid),
    ),
    NamedAttack(
        name="ShiftsAttack", title="Shifts", panel=10, family="spatial",
        random=False, make=lambda effort: SpatialAttack(max_rotation=0, grid=effort.grid),
    ),
)  # fmt: skip
