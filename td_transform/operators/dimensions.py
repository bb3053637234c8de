"""What stands at the dimensions of a tensor (widths, axes of the image), and windows that slide there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from td_transform.operators.widths import Conflict, Width

# the axis of a map whose axes all stand in one dimension
FLAT = -1


@dataclass(frozen=True)
class Spatial:
    """A spatial dimension; stride in input pixels per step.

    Args:
        axis: which of the image's, counted from 0; of a picture 0 is vertical, 1 horizontal. `FLAT`
            is all in one, row by row (a flattened map).
        stride: 1 for a flattened map.
        along, sizes: of a flattened map: its axes, and the positions along each.
        ahead: of a flattened map: the tokens before the positions (class tokens).
    """

    axis: int
    stride: Fraction
    along: tuple[Spatial, ...] = ()
    sizes: tuple[int, ...] = ()
    ahead: int = 0

    def stepped(self, factor: Fraction | int) -> Spatial:
        """The axis after a step of that many positions."""
        if self.axis == FLAT and factor != 1:
            raise Conflict("a step along a flattened map")
        return replace(self, stride=self.stride * factor)


Dim = Width | Spatial
Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Window:
    """A sliding window, axis by axis; padding is before and after. Without axes: a single position."""

    kernel: tuple[int, ...] = ()
    stride: tuple[Fraction, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()

    @property
    def is_pointwise(self) -> bool:
        """Does it read one position of each axis?"""
        return set(self.kernel) <= {1}

    @property
    def steps(self) -> bool:
        """Has it a stride along any axis?"""
        return not set(self.stride) <= {Fraction(1)}

    @property
    def keeps_size(self) -> bool:
        """Is the output as large as the input, at stride 1?"""
        spans = tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))
        return not self.steps and all(
            before + after == span
            for (before, after), span in zip(self.padding, spans, strict=True)
        )


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a tensor in the traced model."""

    shape: tuple[int, ...]
    dtype: torch.dtype
