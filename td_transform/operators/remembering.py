"""Maps that are taken apart, into windows or patches, and put together again."""

from __future__ import annotations

from typing import Any

from td_transform.operators.registry import FLAT, Call, Dims, Inference, Spatial, TensorInfo


def remembered(call: Call, dims: Dims, shape: tuple[int, ...]) -> Dims:
    """The axes of a map that was met before, where a tensor without axes has its size."""
    count = call.axes
    if len(shape) != 2 + count or shape[0] != call.batch or any(map(_is_axis, dims)):
        return dims
    for place in (2, 1):
        axes = call.inference.maps.get(shape[place : place + count])
        if axes is not None:
            return (*dims[:place], *axes, *dims[place + count :])
    return dims


def remember(inference: Inference, dims: Any, values: Any) -> None:
    """Keep in mind how large maps are; the size of a single axis is too little to know them by."""
    if not isinstance(values, TensorInfo) or not isinstance(dims, tuple):
        return
    count = len(dims) - 2
    for place in (1, 2):
        axes = dims[place : place + count]
        if count > 1 and all(map(_is_axis, axes)):
            inference.maps[values.shape[place : place + count]] = axes


def _is_axis(dim: Any) -> bool:
    return isinstance(dim, Spatial) and dim.axis != FLAT
