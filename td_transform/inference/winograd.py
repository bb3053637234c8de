"""Winograd's convolution: some times fewer multiplications, for more additions and more memory.

m outputs of a convolution with r taps are A^T [(G w) * (B^T x)], with n = m + r - 1 products instead of
m r (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks"). All but A^T are written as
convolutions between whole maps of C or K channels, so that a runtime which lays out channels in blocks
needn't lay them out anew in between: B^T x as n depthwise ones, the products as one in n groups.
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
_ONE = _POINTS.index(1)


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
    """A convolution of stride 1, r x r weights (K, C, r, r) and zero padding, by tiles of m outputs.

    Args:
        weight: of the convolution.
        bias: (K,) or None.
        padding: along both axes.
        tile: m.
        axes: 1, tiles of m rows, or 2, of m x m.
    """

    inputs: Tensor
    products: Tensor
    bias: Tensor
    outputs: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor | None, padding: int, tile: int, axes: int
    ) -> None:
        super().__init__()
        self.padding, self.tile, self.axes = padding, tile, axes
        self.width, c, self.size = weight.shape[:3]
        back, kernel, inputs = (torch.from_numpy(m).to(weight) for m in matrices(tile, self.size))
        n = len(kernel)
        products = torch.einsum("ai,kcij->akcj", kernel, weight.detach())
        if axes == 2:
            products = torch.einsum("bj,akcj->bakc", kernel, products)
            back = torch.einsum("ia,jb->ijba", back, back)
        # the second point is 1: what is added to its product is added to all outputs of a tile
        shift = torch.zeros(n**axes, self.width).to(weight)
        shift[_ONE * (n + 1) if axes == 2 else _ONE] = 0 if bias is None else bias.detach()
        self.register_buffer("inputs", inputs)
        self.register_buffer("products", products.reshape(n**axes * self.width, c, 1, -1))
        self.register_buffer("bias", shift.flatten())
        self.register_buffer("outputs", back.reshape(tile**axes, n**axes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W'), the size that the convolution gives."""
        m, grows, both = self.tile, 2 * self.padding - self.size + 1, self.axes == 2
        high, wide = x.shape[2] + grows, x.shape[3] + grows
        below, right = -high % m, -wide % m if both else 0
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        x = self._tiles(x, (1, 1, -1, 1), (m, 1), (self.padding, 0))
        if both:
            x = self._tiles(x, (1, 1, 1, -1), (1, m), (0, self.padding))
        groups = self.outputs.shape[1]
        x = F.conv2d(x, self.products, self.bias, 1, (0, 0 if both else self.padding), 1, groups)
        n, _, rows, columns = x.shape
        x = self.outputs @ x.reshape(n, groups, -1)
        x = x.reshape(n, m, -1, self.width, rows, columns)
        x = x.permute(0, 3, 4, 1, 5, 2) if both else x[:, :, 0].permute(0, 2, 3, 1, 4)
        x = x.reshape(n, self.width, high + below, wide + right)
        # no view of more: other nodes may write into it
        return x[:, :, :high, :wide].clone() if below or right else x

    def _tiles(
        self, x: Tensor, shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        """The maps that the products read along one axis, one after the other."""
        c = x.shape[1]
        taps = [row.reshape(shape).repeat(c, 1, 1, 1) for row in self.inputs]
        return torch.cat([F.conv2d(x, t, None, stride, padding, 1, c) for t in taps], 1)
