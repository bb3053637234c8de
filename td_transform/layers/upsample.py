"""How a map is brought to the next finer resolution (paper, 3.1)."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from td_transform.taps import Taps

UpsampleKind = Literal["nearest", "bilinear", "transposed"]


def learns(kind: object) -> bool:
    """Does it belong to one map alone? So does one of the user's own, which may learn."""
    return kind not in ("nearest", "bilinear")


class Upsample(nn.Module):
    """Brings a map to a finer level's exact size: by the factor, then cut at the far border.

    Args:
        factor: the ratio of the resolutions.
        kind: `nearest` (the paper's choice), `bilinear`, or `transposed`: a convolution that learns.
        channels: for `transposed`: of the map.
    """

    def __init__(self, factor: int, *, kind: UpsampleKind = "nearest", channels: int = 0) -> None:
        super().__init__()
        self.factor = factor
        self.kind = kind
        if kind == "transposed":
            self.conv = nn.ConvTranspose2d(channels, channels, factor, factor)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """A map (N, C, h, w) at the size of a finer one (N, any, H, W)."""
        if self.kind == "transposed":
            x = self.conv(x)
        else:
            x = F.interpolate(x, scale_factor=float(self.factor), mode=self.kind)
        return _cut(x, like)

    @property
    def taps(self) -> Taps:
        """The positions of the map that a finer position reads, along each axis."""
        ratio = Fraction(1, self.factor)
        return Taps.linear(ratio) if self.kind == "bilinear" else Taps.nearest(ratio)

    def extra_repr(self) -> str:
        return f"factor={self.factor}, kind={self.kind}"


class OwnUpsample(nn.Module):
    """The user's own upsampling by a factor, cut to the finer level's exact size.

    Args:
        layer: (N, C, h, w) -> (N, C, factor * h, factor * w).
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """A map (N, C, h, w) at the size of a finer one (N, any, H, W)."""
        return _cut(self.layer(x), like)


def _cut(x: Tensor, like: Tensor) -> Tensor:
    return x[..., : like.shape[-2], : like.shape[-1]]
