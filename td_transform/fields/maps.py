"""Receptive fields of a map: every axis, and per group of channels where a concatenation made groups.

A network that concatenates branches and splits the result again (channel splits, partial
convolutions) hands each half its own field, so the groups are kept until an operator mixes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from td_transform.fields.axis import AxisField, Track, unite_fields
from td_transform.layers.dimensions import per_axis
from td_transform.taps import Plane, Taps

Axes = tuple[AxisField, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring channels with one field."""

    width: int
    axes: Axes


@dataclass(frozen=True, eq=False)
class MapField:
    """What the positions of a map see: the union over its channels, and the groups where they differ."""

    axes: Axes
    groups: tuple[Group, ...] = ()

    @staticmethod
    def image(*sizes: int) -> MapField:
        return MapField(tuple(AxisField(Track.image(size)) for size in sizes))

    def each(self, change: Callable[[Axes], Axes], *, mixes: bool) -> MapField:
        """The field after an operator on one map; groups go where it mixes the channels."""
        axes = change(self.axes)
        if axes == self.axes and not mixes:
            return self
        if mixes or not self.groups:
            return MapField(axes)
        return MapField(axes, tuple(Group(g.width, change(g.axes)) for g in self.groups))

    def read(self, taps: Plane | Taps, counts: tuple[int, ...], *, mixes: bool) -> MapField:
        """After an operator whose outputs read these positions."""
        each = per_axis(taps, len(counts))
        return self.each(
            lambda axes: tuple(
                axis.read(along, count)
                for axis, along, count in zip(axes, each, counts, strict=True)
            ),
            mixes=mixes,
        )

    def pooled(self, axes: set[int]) -> MapField:
        """Some axes pooled to what all their positions see."""
        if not any(self.axes[axis].track is not None for axis in axes):
            return self
        return self.each(
            lambda own: tuple(axis.pooled() if i in axes else axis for i, axis in enumerate(own)),
            mixes=False,
        )

    def with_whole(self, whole: tuple[bool, ...] | bool) -> MapField:
        """Every position sees the whole map besides (statistics)."""
        each = per_axis(whole, len(self.axes))
        if not any(each):
            return self
        return MapField(
            tuple(
                axis.with_whole() if seen else axis
                for axis, seen in zip(self.axes, each, strict=True)
            )
        )

    def channels(self, start: int, stop: int) -> MapField:
        """A slice of the channels."""
        if not self.groups:
            return self
        kept = []
        for end, group in zip(accumulate(g.width for g in self.groups), self.groups, strict=True):
            width = min(stop, end) - max(start, end - group.width)
            if width > 0:
                kept.append(Group(width, group.axes))
        return _grouped(kept)

    def grouped(self, width: int) -> tuple[Group, ...]:
        return self.groups or (Group(width, self.axes),)


def concatenated(parts: Sequence[tuple[int, MapField]]) -> MapField:
    """Maps with these widths, one after the other in the channels."""
    first = parts[0][1]
    if all(field is first for _, field in parts) and not first.groups:
        return first
    axes = _unite([field.axes for _, field in parts])
    groups: list[Group] = []
    for width, field in parts:
        for group in field.grouped(width):
            if groups and groups[-1].axes == group.axes:
                groups[-1] = Group(groups[-1].width + group.width, group.axes)
            else:
                groups.append(group)
    return MapField(axes, tuple(groups) if len(groups) > 1 else ())


def united(fields: Sequence[MapField], width: int) -> MapField:
    """Maps of one size that are added or multiplied; `width` counts the channels of the result."""
    fields = list(dict.fromkeys(fields))
    if len(fields) == 1:
        return fields[0]
    axes = _unite([field.axes for field in fields])
    if not any(field.groups for field in fields):
        return MapField(axes)
    ends = sorted({end for field in fields for end in _ends(field, width)})
    starts = [0, *ends[:-1]]
    return _grouped(
        [
            Group(end - start, _unite([f.channels(start, end).axes for f in fields]))
            for start, end in zip(starts, ends, strict=True)
        ]
    )


def _ends(field: MapField, width: int) -> list[int]:
    return list(accumulate(group.width for group in field.grouped(width)))


def _grouped(groups: Sequence[Group]) -> MapField:
    axes = _unite([group.axes for group in groups])
    return MapField(axes, tuple(groups) if len(groups) > 1 else ())


def _unite(axes: Sequence[Axes]) -> Axes:
    return tuple(unite_fields(along) for along in zip(*axes, strict=True))
