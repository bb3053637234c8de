"""Tiles of an image: what has to be cut for some positions of a map, and which positions see a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from td_transform.fields.axis import AxisField, Interval
from td_transform.fields.rows import FieldRow

Box = tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """A part of the image that gives some positions of a map as the whole image does.

    Args:
        pixels: what to cut: the first pixel along every axis, then the ends.
        positions: where those positions stand in the map that the network makes of that part.
    """

    pixels: Box
    positions: Box


def halo(axis: AxisField) -> Interval:
    """Pixels before and after a position's own that it sees at most, on an image without borders."""
    if axis.track is None:
        return axis.whole or (0, 0)
    fields = axis.track.widest
    phases = np.arange(len(fields.starts))
    seeing = fields.ends > fields.starts
    own = phases * fields.step // len(phases), -(-(phases + 1) * fields.step // len(phases))
    before, after = (own[0] - fields.starts)[seeing], (fields.ends - own[1])[seeing]
    return int(before.max(initial=0)), int(after.max(initial=0))


def pixels_of(axis: AxisField, positions: Interval) -> Interval:
    """What some positions see together; (0, 0) where that is only padding."""
    if axis.track is None:
        return axis.whole or (0, 0)
    first, end = (bound[slice(*positions)] for bound in (axis.track.first, axis.track.end))
    seeing = first < end
    if not seeing.any():
        return 0, 0
    return int(first[seeing].min()), int(end[seeing].max())


def tile(axes: Sequence[AxisField], box: Box, row: FieldRow, before: Iterable[FieldRow]) -> Tile:
    """The tile for a box of positions; it starts where all maps on the way have a position."""
    strides = [[r.stride[axis] for r in before] for axis in range(len(axes))]
    pixels: list[Interval] = []
    positions: list[Interval] = []
    for axis, known, own, low, high in zip(
        axes, strides, row.stride, box[: len(axes)], box[len(axes) :], strict=True
    ):
        step = lcm(*(stride.numerator for stride in known if stride is not None))
        start, end = pixels_of(axis, (low, high))
        start = start // step * step
        shift = int(start / own) if own is not None else 0
        pixels.append((start, end))
        positions.append((low - shift, high - shift))
    return Tile(_box(pixels), _box(positions))


def reaching(axes: Sequence[AxisField], pixel: Sequence[int]) -> Box:
    """The smallest box of the positions that see a pixel; zeros where none does."""
    found = [_reaching(axis, place) for axis, place in zip(axes, pixel, strict=True)]
    return _box(found) if all(low < high for low, high in found) else (0,) * (2 * len(found))


def _reaching(axis: AxisField, pixel: int) -> Interval:
    if axis.track is None:
        start, end = axis.whole or (0, 0)
        return (0, 1) if start <= pixel < end else (0, 0)
    seeing = np.flatnonzero((axis.track.first <= pixel) & (pixel < axis.track.end))
    return (int(seeing[0]), int(seeing[-1]) + 1) if len(seeing) else (0, 0)


def _box(intervals: Sequence[Interval]) -> Box:
    return (*(start for start, _ in intervals), *(end for _, end in intervals))
