"""Rotations and shifts with the limits and the grid that foolbox 1 and 2 had by default."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import OrderedCandidates
from benchmarks.measures.attacks.search import Search, Target, l2


class SpatialAttack(Search):
    """Tries a grid of rotations and shifts (Engstrom et al., arXiv 1712.02779).

    The moves are tried from the smallest L2 to the largest and the first that works counts. The
    paper's foolbox took the first of the grid that works, which is among the largest. Whether an
    image can be fooled at all is the same.

    Args:
        max_shift: pixels, along both axes and in both directions.
        max_rotation: degrees, in both directions; with 0 the images are only shifted.
        grid: how many values each of the two shifts and the rotation takes.
        closest: from the smallest change to the largest, instead of in the grid's order.
    """

    def __init__(
        self, *, max_shift: float = 5, max_rotation: float = 5, grid: int = 10, closest: bool = True
    ) -> None:
        self.max_shift = max_shift
        self.max_rotation = max_rotation
        self.grid = grid
        self.closest = closest

    def search(self, target: Target) -> Tensor:
        moves = self.moves().to(target.images)
        count = len(target.images)
        order = torch.arange(len(moves), device=moves.device).expand(count, -1)
        if self.closest:
            far = [l2(moved(target.images, move[None]) - target.images) for move in moves]
            order = torch.stack(far, 1).argsort(dim=1, stable=True)
        begin = torch.ones_like(target.labels)
        end = torch.full_like(begin, len(moves))
        return _Moves(moves, order).first(target, begin, end, rising=self.closest).images

    def moves(self) -> Tensor:
        """Degrees, pixels down and pixels to the right of each, (moves, 3), in the grid's order."""
        shifts = torch.linspace(-self.max_shift, self.max_shift, self.grid).tolist()
        degrees = torch.linspace(-self.max_rotation, self.max_rotation, self.grid).tolist()
        return torch.tensor(
            [
                (angle, down, right)
                for down, right, angle in itertools.product(
                    shifts, shifts, degrees if self.max_rotation else [0.0]
                )
            ]
        )


class _Moves(OrderedCandidates):
    """The moves in the order of each image, (N, moves)."""

    def __init__(self, moves: Tensor, order: Tensor) -> None:
        self.moves, self.order = moves, order

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        return moved(target.images[rows], self.moves[self.order[rows, steps - 1]])


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Rotate about the centre, then shift by pixels; bilinear, with black around the image.

    Args:
        images: (N, C, H, W) in [0, 1].
        moves: degrees (clockwise), pixels down, pixels to the right; (N, 3), or (1, 3) for all.

    Example:
        >>> image = torch.eye(3)[None, None]
        >>> moved(image, torch.tensor([[0.0, 1.0, 0.0]]))[0, 0].tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    height, width = images.shape[2:]
    angle, down, right = moves.deg2rad()[:, 0], moves[:, 1], moves[:, 2]
    # for a pixel of the result, in pixels from the centre (x, y): where it comes from
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    offset = -turn @ torch.stack([right, down], 1)[:, :, None]
    # affine_grid counts half the width and half the height as 1
    half = images.new_tensor([width / 2, height / 2])
    theta = torch.cat([turn * half / half[:, None], offset / half[:, None]], dim=2)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False).clamp(0, 1)


ATTACKS = (
    NamedAttack(
        name="SpatialAttack", title="Spatial", panel=9, family="spatial",
        make=lambda effort: SpatialAttack(grid=effort.grid),
        authors=lambda effort: SpatialAttack(grid=effort.grid, closest=False),
    ),
    NamedAttack(
        name="ShiftsAttack", title="Shifts", panel=10, family="spatial",
        make=lambda effort: SpatialAttack(max_rotation=0, grid=effort.grid),
        authors=lambda effort: SpatialAttack(max_rotation=0, grid=effort.grid, closest=False),
    ),
)  # fmt: skip
