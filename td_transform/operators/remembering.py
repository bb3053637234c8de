"""Maps that are taken apart, into windows or patches, and put together again."""

from __future__ import annotations

from typing import Any

from td_transform.operators.registry import Call, Dims, Inference, Spatial, TensorInfo


def remembered(call: Call, dims: Dims, shape: tuple[int, ...]) -> Dims:
    """The axes of a map that was met before, where a tensor without axes has its size."""
    if len(shape) != 4 or shape[0] != call.batch or any(isinstance(d, Spatial) for d in dims):
        return dims
    for place in (2, 1):
        axes = call.inference.maps.get((shape[place], shape[place + 1]))
        if axes is not None:
            return (*dims[:place], *axes, *dims[place + 2 :])
    return dims


def remember(inference: Inference, dims: Any, values: Any) -> None:
    """Keep in mind how large maps are."""
    if not isinstance(values, TensorInfo) or not isinstance(dims, tuple) or len(dims) != 4:
        return
    for place in (1, 2):
        vertical, horizontal = dims[place], dims[place + 1]
        if isinstance(vertical, Spatial) and isinstance(horizontal, Spatial):
            size = (values.shape[place], values.shape[place + 1])
            inference.maps[size] = (vertical, horizontal)
