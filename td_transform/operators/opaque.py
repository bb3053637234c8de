"""What the registry doesn't know: widths pinned, strides read off the shapes.

An opaque operator may do anything to its input, so that nothing about it may change: the widths that
it reads are fixed at their bottom-up values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import takewhile
from typing import Any

from torch import fx

from td_transform.operators.dimensions import FLAT, Dim, Dims, Spatial, TensorInfo
from td_transform.operators.mutation import assigned
from td_transform.operators.registry import Call, Inference, Operator
from td_transform.operators.remembering import remembered
from td_transform.operators.widths import Width
from td_transform.taps import Reach


def opaque(call: Call) -> Any:
    """The dimensions of whatever an unknown operator returns; what is written into keeps its own."""
    for tensor in call.tensors:
        pin(call, tensor)
    if call.node.target is assigned:
        return call.dims()
    return _described(call, call.values[call.node])


def everything(call: Call) -> Reach:
    """A bound: what may do anything may read the whole map."""
    return Reach(whole=True)


OPAQUE = Operator("opaque", "opaque", opaque, reach=everything)


def pin(call: Call, tensor: fx.Node) -> None:
    """Fix the widths of a tensor at what they are in the bottom-up model."""
    for dim, size in zip(call.dims(tensor), call.shape(tensor), strict=True):
        if isinstance(dim, Width) and dim.terms:
            call.inference.pins.append((call.node, call.inference.widths.resolve(dim), size))
            call.inference.widths.equate(dim, Width.of(size))


def settled(dims: Any, values: Any) -> Any:
    """Dimensions with what is a mere number as large as it is in the bottom-up model.

    Positions with something beside them that isn't ahead of them are a number as well.
    """
    if isinstance(dims, Spatial):
        whole = dims.axis != FLAT or values == math.prod(dims.sizes) + dims.ahead
        return dims if whole or not isinstance(values, int) else Width.of(values)
    if isinstance(dims, Width):
        size = values if isinstance(values, int) else None
        return Width.of(size) if size is not None and not dims.terms else dims
    sizes = values.shape if isinstance(values, TensorInfo) else values
    if isinstance(dims, tuple) and isinstance(sizes, tuple) and len(dims) == len(sizes):
        return tuple(settled(dim, size) for dim, size in zip(dims, sizes, strict=True))
    return dims


def fits(inference: Inference, dims: Any, values: Any) -> bool:
    """Are dimensions that a rule gave those that the bottom-up model has?"""
    if isinstance(values, TensorInfo):
        return (
            isinstance(dims, tuple)
            and len(dims) == len(values.shape)
            and all(map(partial(_is_size, inference), dims, values.shape))
        )
    if isinstance(values, tuple) and isinstance(dims, tuple):
        return len(dims) == len(values) and all(map(partial(fits, inference), dims, values))
    return True


def _is_size(inference: Inference, dim: Dim, size: int) -> bool:
    if isinstance(dim, Spatial) or not dim.terms:
        return True
    return inference.widths.resolve(dim).evaluate(inference.widths.bottom_up) == size


def _described(call: Call, value: Any) -> Any:
    if isinstance(value, TensorInfo):
        return _dims(call, value.shape)
    if isinstance(value, tuple):
        return tuple(_described(call, item) for item in value)
    if isinstance(value, dict):
        return {key: _described(call, item) for key, item in value.items()}
    return Width.of(value) if isinstance(value, int) else None


def _dims(call: Call, shape: tuple[int, ...]) -> Dims:
    """The axes of the map where its sizes, or else whole fractions of them, stand in a shape."""
    numbers = tuple(Width.of(size) for size in shape)
    for axes_of in (_Map.whole_at, _Map.axes_at):
        for found in _maps(call):
            for place in _places(found.place, len(shape)):
                axes = axes_of(found, shape, place)
                if axes is not None and not _stays(call, shape, place, len(axes)):
                    return (*numbers[:place], *axes, *numbers[place + len(axes) :])
    return remembered(call, numbers, shape)


def _stays(call: Call, shape: tuple[int, ...], place: int, count: int) -> bool:
    return any(call.stays(shape, each) for each in range(place, place + count))


@dataclass(frozen=True)
class _Map:
    """The axes of a map that an operator reads, with their sizes, and where the first stands."""

    axes: tuple[Spatial, ...]
    sizes: tuple[int, ...]
    place: int

    def whole_at(self, shape: tuple[int, ...], place: int) -> tuple[Dim, ...] | None:
        """What they are in an output that has all of them, as large as they were, at that place."""
        count = len(self.axes)
        return self.axes if count > 1 and shape[place : place + count] == self.sizes else None

    def axes_at(self, shape: tuple[int, ...], place: int) -> tuple[Dim, ...] | None:
        """What they are in an output of that shape, if they begin at that place."""
        count = len(self.axes)
        if count > 1 and shape[place] == math.prod(self.sizes) > 1:
            return (Spatial(FLAT, Fraction(1), self.axes, self.sizes),)
        after = shape[place : place + count]
        if len(after) < count:
            return None
        steps = {_step(was, size) for was, size in zip(self.sizes, after, strict=True)}
        step = steps.pop()
        # the size of a single axis may stand elsewhere by chance
        moved = count == 1 and place != self.place and step != 1
        if steps or step is None or moved:
            return None
        return tuple(Spatial(axis.axis, axis.stride * step) for axis in self.axes)


def _maps(call: Call) -> Iterator[_Map]:
    """Every map that the operator reads; first those whose sizes it is given as numbers."""
    if not call.axes:
        return
    asked = [n for n in call.node.all_input_nodes if isinstance(call.values.get(n), int)]
    sizes = {d.axis: (d, call.values[n]) for n in asked if isinstance(d := call.dims(n), Spatial)}
    if all(axis in sizes for axis in range(call.axes)):
        axes, numbers = zip(*(sizes[axis] for axis in range(call.axes)), strict=True)
        yield _Map(axes, numbers, 2)
    for tensor in call.tensors:
        dims, shape = call.dims(tensor), call.shape(tensor)
        place = next((i for i, dim in enumerate(dims) if isinstance(dim, Spatial)), len(dims))
        run = tuple(takewhile(lambda dim: isinstance(dim, Spatial), dims[place:]))
        if run and isinstance(flat := run[0], Spatial) and flat.axis == FLAT:
            if flat.ahead:
                continue
            yield _Map(flat.along, flat.sizes, place)
        elif len(run) == call.axes:
            axes = tuple(dim for dim in run if isinstance(dim, Spatial))
            yield _Map(axes, shape[place : place + len(run)], place)


def _places(own: int, rank: int) -> list[int]:
    """Where the first axis of a map may stand in a tensor, its place in the input first."""
    return list(dict.fromkeys([*([own] if own < rank else []), *range(1, rank)]))


def _step(before: int, after: int) -> Fraction | None:
    """Input positions per output position, where that is a whole number or the inverse of one."""
    if after <= 1 < before:
        return None
    if before >= after:
        factor = round(before / after)
        return Fraction(factor) if after in (before // factor, -(-before // factor)) else None
    factor = round(after / before)
    return Fraction(1, factor) if after == before * factor else None
