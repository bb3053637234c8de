"""Which input positions an output position reads, along one axis and for a whole operator."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, gcd
from typing import Literal

Boundary = Literal["drop", "clamp", "reflect", "circular"]


@dataclass(frozen=True)
class Taps:
    """The input positions that output positions read, along one axis.

    Output position ``q * len(offsets) + phase`` reads the positions ``offset + q * step`` for the
    offsets of its phase: a convolution has one phase, an upsampling by two has two.

    Args:
        offsets: per phase the input positions that its first output reads.
        step: input positions from an output to the one ``len(offsets)`` later.
        boundary: what a position outside the map is: nothing (zero padding), the nearest
            position, the mirrored one, or the one at the other end.
    """

    offsets: tuple[tuple[int, ...], ...] = ((0,),)
    step: int = 1
    boundary: Boundary = "drop"

    @property
    def is_point(self) -> bool:
        """Does each position read its own place alone?"""
        return self.step == 1 and self.offsets == ((0,),)

    @staticmethod
    def window(
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        padding: int = 0,
        boundary: Boundary = "drop",
    ) -> Taps:
        """A sliding window; `padding` counts the positions before the map."""
        return Taps(
            (tuple(range(-padding, dilation * kernel - padding, dilation)),), stride, boundary
        )

    @staticmethod
    def transposed(kernel: int, stride: int, *, dilation: int = 1, padding: int = 0) -> Taps:
        """Output p reads the inputs i with p = i * stride + tap * dilation - padding."""
        phases = []
        for phase in range(stride):
            reached = (phase + padding - tap * dilation for tap in range(kernel))
            phases.append(tuple(sorted(r // stride for r in reached if r % stride == 0)))
        return Taps(tuple(phases))

    @staticmethod
    def nearest(ratio: Fraction, *, centred: bool = False) -> Taps:
        """Nearest neighbour; `ratio` is input positions per output position."""
        shift = Fraction(1, 2) if centred else Fraction(0)
        places = ((p + shift) * ratio for p in range(ratio.denominator))
        return Taps(tuple((floor(p),) for p in places), ratio.numerator, "clamp")

    @staticmethod
    def linear(ratio: Fraction, *, reach: int = 1, corners: bool = False) -> Taps:
        """Interpolation between 2 * reach neighbours (1: linear, 2: cubic)."""
        phases = []
        for p in range(ratio.denominator):
            place = p * ratio if corners else (p + Fraction(1, 2)) * ratio - Fraction(1, 2)
            left = floor(place)
            on_position = place == left
            phases.append(
                (left,) if on_position else tuple(range(left - reach + 1, left + reach + 1))
            )
        return Taps(tuple(phases), ratio.numerator, "clamp")

    @staticmethod
    def antialiased(ratio: Fraction, *, reach: int = 1) -> Taps:
        """A triangle (reach 1) or cubic (reach 2) filter, widened where it downsamples."""
        scale = max(ratio, Fraction(1))
        phases = []
        for p in range(ratio.denominator):
            centre = (p + Fraction(1, 2)) * ratio - Fraction(1, 2)
            near = range(floor(centre - reach * scale), ceil(centre + reach * scale) + 1)
            # both filters are zero where the distance is a whole number of scales, but for none
            distances = ((i, abs(i - centre) / scale) for i in near)
            phases.append(tuple(i for i, d in distances if d == 0 or (d < reach and d != 1)))
        return Taps(tuple(phases), ratio.numerator)

    @staticmethod
    def adaptive(size_in: int, size_out: int) -> Taps:
        """Output p reads from floor(p * in / out) up to ceil((p + 1) * in / out)."""
        common = gcd(size_in, size_out)
        phases = []
        for p in range(size_out // common):
            end = -(-(p + 1) * size_in // size_out)
            phases.append(tuple(range(p * size_in // size_out, end)))
        return Taps(tuple(phases), size_in // common)


POINT = Taps()
# one for each axis of the map
Plane = tuple[Taps, ...]


@dataclass(frozen=True)
class Reach:
    """What an operator's outputs read of its input maps.

    Args:
        taps: one for each axis, or one that holds along all of them.
        whole: do they read the whole map besides (statistics, attention)? For each axis, or all.
        mixes: does an output channel read other input channels than its own?
        sources: how many of the tensors it is called with it reads; None for all.
        levels: for several outputs: the taps of each.
        measured: was it found from gradients at one size? At another it may read other positions.
        sized: do the taps depend on the size of the whole map, so that a part of it would be read
            otherwise (windows that share it out, a resize to a given size)?
    """

    taps: Plane | Taps = POINT
    whole: tuple[bool, ...] | bool = False
    mixes: bool = True
    sources: int | None = None
    levels: tuple[Plane, ...] = ()
    measured: bool = False
    sized: bool = False
