"""How a map is brought to the next finer resolution (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from td_transform.layers.dimensions import DIMENSIONS, agreed
from td_transform.taps import Plane, Taps

UpsampleKind = Literal["nearest", "bilinear", "transposed"]


def learns(kind: object) -> bool:
    """Does it belong to one map alone? So does one of the user's own, which may learn."""
    return kind not in ("nearest", "bilinear")


class Upsample(nn.Module):
    """Brings a map to a finer level's exact size: by the factor, then cut at the far border.

    Args:
        factor: the ratio of the resolutions, along every axis or one each.
        kind: `nearest` (the paper's choice), `bilinear` (linear along every axis), or `transposed`:
            a convolution that learns.
        channels: for `transposed`: of the map.
        axes: of the map, where the factor doesn't say how many.
    """

    def __init__(
        self,
        factor: int | Sequence[int],
        *,
        kind: UpsampleKind = "nearest",
        channels: int = 0,
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.factors = (factor,) * axes if isinstance(factor, int) else tuple(factor)
        self.kind = kind
        if kind == "transposed":
            conv: type[nn.Module] = DIMENSIONS[len(self.factors)].transposed_conv
            self.conv = conv(channels, channels, self.factors, self.factors)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """A map (N, C, h, w) at the size of a finer one (N, any, H, W)."""
        if self.kind == "transposed":
            x = self.conv(x)
        else:
            linear = DIMENSIONS[len(self.factors)].linear
            mode: str = linear if self.kind == "bilinear" else self.kind
            x = F.interpolate(x, scale_factor=[float(f) for f in self.factors], mode=mode)
        return _cut(x, like, len(self.factors))

    @property
    def taps(self) -> Plane:
        """The positions of the map that a finer position reads, along each axis."""
        along = Taps.linear if self.kind == "bilinear" else Taps.nearest
        return tuple(along(Fraction(1, factor)) for factor in self.factors)

    def extra_repr(self) -> str:
        return f"factor={agreed(self.factors)}, kind={self.kind}"


class OwnUpsample(nn.Module):
    """The user's own upsampling by a factor, cut to the finer level's exact size.

    Args:
        layer: (N, C, h, w) -> (N, C, factor * h, factor * w).
        axes: of the map.
    """

    def __init__(self, layer: nn.Module, axes: int) -> None:
        super().__init__()
        self.layer = layer
        self.axes = axes

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """A map (N, C, h, w) at the size of a finer one (N, any, H, W)."""
        return _cut(self.layer(x), like, self.axes)


def _cut(x: Tensor, like: Tensor, axes: int) -> Tensor:
    sides = (slice(like.shape[axis]) for axis in range(2, 2 + axes))
    return x[(slice(None), slice(None), *sides)]
