"""Winograd's convolution: some times fewer multiplications, for more additions and more memory.

A tile of m x m outputs of an r x r convolution is A^T [(G w G^T) * (B^T x B)] A, with n = m + r - 1
products instead of m r along each axis (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
Networks"). Both transforms are written as convolutions over the positions of a tile, and the products
as a matrix product for each of the n x n, so that any runtime has fast operators for them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Matrix = NDArray[np.float64]

# where the polynomials are evaluated, besides infinity: small numbers round least
_POINTS = (0, 1, -1, 2, -2, 0.5, -0.5)


def matrices(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T (m, n), G (n, r) and B^T (n, n), with n = m + r - 1.

    A and G evaluate polynomials at the points; the last point is infinity, the leading coefficient. B
    solves the equations that say that the products sum up to a correlation, in double precision.
    """
    n = m + r - 1
    points = np.array(_POINTS[: n - 1], dtype=np.float64)
    outputs, kernel = np.zeros((m, n)), np.zeros((n, r))
    outputs[:, :-1] = points ** np.arange(m)[:, None]
    scale = [np.prod([p - q for q in points if q != p]) for p in points]
    kernel[:-1] = points[:, None] ** np.arange(r) / np.array(scale)[:, None]
    outputs[-1, -1] = kernel[-1, -1] = 1
    sums = np.einsum("ij,jk->ikj", outputs, kernel).reshape(m * r, n)
    wanted = np.eye(n)[np.add.outer(np.arange(m), np.arange(r)).ravel()]
    inputs = np.linalg.lstsq(sums, wanted, rcond=None)[0]
    return outputs, kernel, inputs


class Winograd(nn.Module):
    """A convolution of stride 1, r x r weights (K, C, r, r) and zero padding, by tiles of m x m.

    Args:
        weight: of the convolution.
        bias: (K,) or None.
        padding: along both axes.
        tile: m, with r <= m + 1.
    """

    products: Tensor
    inputs: Tensor
    outputs: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: int, tile: int) -> None:
        super().__init__()
        self.padding, self.tile, self.size = padding, tile, weight.shape[-1]
        outputs, kernel, inputs = matrices(tile, self.size)
        n = len(kernel)
        self.positions, self.width = n * n, len(weight)
        at = torch.from_numpy(kernel).to(weight)
        products = torch.einsum("ai,kcij,bj->abkc", at, weight.detach(), at)
        self.register_buffer("products", products.reshape(n * n, *weight.shape[:2]))
        # an input tile is n x n of the 2m x 2m pixels of four neighbouring blocks of m x m
        blocks = np.zeros((n, 2 * tile, n, 2 * tile))
        blocks[:, :n, :, :n] = np.einsum("ap,bq->apbq", inputs, inputs)
        blocks = blocks.reshape(n, 2, tile, n, 2, tile).transpose(0, 3, 2, 5, 1, 4)
        back = np.einsum("ia,jb->ijab", outputs, outputs)
        for name, values, shape in (
            ("inputs", blocks, (n * n, tile * tile, 2, 2)),
            ("outputs", back, (tile * tile, n * n, 1, 1)),
        ):
            self.register_buffer(name, torch.from_numpy(values.reshape(shape)).to(weight))
        self.register_buffer("bias", None if bias is None else bias.detach().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W'), the size that the convolution gives."""
        n, c, height, width = x.shape
        m, grows = self.tile, 2 * self.padding - self.size + 1
        high, wide = height + grows, width + grows
        rows, columns = -(-high // m), -(-wide // m)
        below, right = (rows + 1) * m - height, (columns + 1) * m - width
        x = F.pad(x, (self.padding, right - self.padding, self.padding, below - self.padding))
        x = F.pixel_unshuffle(x.reshape(n * c, 1, *x.shape[2:]), m)
        x = F.conv2d(x, self.inputs)
        x = x.reshape(n, c, self.positions, rows * columns).permute(2, 1, 0, 3)
        x = self.products @ x.reshape(self.positions, c, n * rows * columns)
        x = x.reshape(self.positions, self.width, n, rows * columns).permute(2, 1, 0, 3)
        x = F.conv2d(x.reshape(n * self.width, self.positions, rows, columns), self.outputs)
        x = F.pixel_shuffle(x, m).reshape(n, self.width, rows * m, columns * m)
        x = x[:, :, :high, :wide]
        # no view of the tiles: other nodes may write into it
        return x.clone() if self.bias is None else x + self.bias
