"""Maps that are taken apart, into windows or patches, and put together again."""

from __future__ import annotations

from typing import Any

from td_transform.operators.dimensions import FLAT, Dims, Spatial, TensorInfo
from td_transform.operators.registry import Call, Inference
from td_transform.operators.widths import Width


def remembered(call: Call, dims: Dims, shape: tuple[int, ...]) -> Dims:
    """The axes of a map that was met before, where a tensor without axes has its size."""
    count = call.axes
    if len(shape) != 2 + count or shape[0] != call.batch or any(map(_is_axis, dims)):
        return dims
    known = [
        p
        for p in (2, 1)
        if shape[p : p + count] in call.inference.maps and not call.stays(shape, p)
    ]
    for place in sorted(known, key=lambda place: _vary(call, dims[place : place + count])):
        for dim, size in zip(dims[place : place + count], shape[place:], strict=False):
            if isinstance(dim, Width):  # positions are no channels
                call.inference.widths.equate(dim, Width.of(size))
        axes = call.inference.maps[shape[place : place + count]]
        return (*dims[:place], *axes, *dims[place + count :])
    return dims


def remember(inference: Inference, dims: Any, values: Any) -> None:
    """Keep in mind how large maps are; the size of a single axis is too little to know them by."""
    if not isinstance(values, TensorInfo) or not isinstance(dims, tuple):
        return
    count = len(dims) - 2
    for place in (1, 2):
        axes = dims[place : place + count]
        if count > 1 and [d.axis for d in axes if isinstance(d, Spatial)] == list(range(count)):
            inference.maps[values.shape[place : place + count]] = axes


def _is_axis(dim: Any) -> bool:
    return isinstance(dim, Spatial) and dim.axis != FLAT


def _vary(call: Call, dims: Dims) -> bool:
    """Are there widths among them that nothing has fixed yet?"""
    widths = call.inference.widths
    return any(isinstance(dim, Width) and widths.resolve(dim).terms for dim in dims)
