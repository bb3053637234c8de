"""What the registry doesn't know: widths pinned, strides read off the shapes.

An opaque operator may do anything to its input, so that nothing about it may change: the widths that
it reads are fixed at their bottom-up values.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

from torch import fx

from td_transform.operators.registry import (
    BOTH_AXES,
    Call,
    Dim,
    Dims,
    Inference,
    Operator,
    Spatial,
    TensorInfo,
)
from td_transform.operators.remembering import remembered
from td_transform.operators.widths import Width
from td_transform.taps import Reach


def opaque(call: Call) -> Any:
    """The dimensions of whatever an unknown operator returns."""
    for tensor in call.tensors:
        pin(call, tensor)
    return _described(call, call.values[call.node])


def everything(call: Call) -> Reach:
    """A bound: what may do anything may read the whole map."""
    return Reach(whole=(True, True))


OPAQUE = Operator("opaque", "opaque", opaque, reach=everything)


def pin(call: Call, tensor: fx.Node) -> None:
    """Fix the widths of a tensor at what they are in the bottom-up model."""
    for dim, size in zip(call.dims(tensor), call.shape(tensor), strict=True):
        if isinstance(dim, Width) and dim.terms:
            call.inference.pins.append((call.node, call.inference.widths.resolve(dim), size))
            call.inference.widths.equate(dim, Width.of(size))


def settled(dims: Any, values: Any) -> Any:
    """Dimensions with what is a mere number as large as it is in the bottom-up model."""
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
    """The axes of the map where its sizes, or whole fractions of them, stand in a shape."""
    numbers = tuple(Width.of(size) for size in shape)
    for vertical, horizontal, layout in _maps(call):
        for place in _places(layout, len(shape)):
            found = _axes_at(shape, place, vertical, horizontal)
            if found is not None:
                return (*numbers[:place], *found, *numbers[place + len(found) :])
    return remembered(call, numbers, shape)


def _maps(call: Call) -> Iterator[tuple[tuple[Spatial, int], tuple[Spatial, int], int]]:
    """Both axes, with their sizes, of every map that the operator reads, and where they stand;
    first those that it is given as numbers."""
    asked = [n for n in call.node.all_input_nodes if isinstance(call.values.get(n), int)]
    sizes = {d.axis: (d, call.values[n]) for n in asked if isinstance(d := call.dims(n), Spatial)}
    if 0 in sizes and 1 in sizes:
        yield sizes[0], sizes[1], 2
    for tensor in call.tensors:
        dims, shape = call.dims(tensor), call.shape(tensor)
        for place, dim in enumerate(dims):
            if not isinstance(dim, Spatial):
                continue
            if dim.axis == BOTH_AXES:
                rows = shape[place] // dim.columns
                yield (dim.along[0], rows), (dim.along[1], dim.columns), place
            elif place + 1 < len(dims) and isinstance(after := dims[place + 1], Spatial):
                yield (dim, shape[place]), (after, shape[place + 1]), place
            break


def _places(own: int, rank: int) -> list[int]:
    """Where the first axis of a map may stand in a tensor, its place in the input first."""
    return list(dict.fromkeys([*([own] if own < rank else []), *range(1, rank)]))


def _axes_at(
    shape: tuple[int, ...],
    place: int,
    vertical: tuple[Spatial, int],
    horizontal: tuple[Spatial, int],
) -> tuple[Dim, ...] | None:
    if shape[place] == vertical[1] * horizontal[1] > 1:
        along = (vertical[0], horizontal[0])
        return (Spatial(BOTH_AXES, Fraction(1), columns=horizontal[1], along=along),)
    if place + 1 >= len(shape):
        return None
    steps = _step(vertical[1], shape[place]), _step(horizontal[1], shape[place + 1])
    if steps[0] is None or steps[0] != steps[1]:
        return None
    return (
        Spatial(0, vertical[0].stride * steps[0]),
        Spatial(1, horizontal[0].stride * steps[0]),
    )


def _step(before: int, after: int) -> Fraction | None:
    """Input positions per output position, where that is a whole number or the inverse of one."""
    if after <= 1 < before:
        return None
    if before >= after:
        factor = round(before / after)
        return Fraction(factor) if after in (before // factor, -(-before // factor)) else None
    factor = round(after / before)
    return Fraction(1, factor) if after == before * factor else None
