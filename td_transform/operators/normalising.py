"""Channel rules of normalisations that are called as functions, with parameters as arguments."""

from __future__ import annotations

from typing import Any

from td_transform.operators.dimensions import Dims
from td_transform.operators.registry import Call
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Conflict


def along_channels(call: Call) -> Dims:
    """`F.batch_norm`, `F.instance_norm`, `F.group_norm`: statistics and parameters per channel."""
    dims = call.dims()
    channels = as_width(dims[1])
    groups = call.number("num_groups", 1)
    if isinstance(groups, int):
        call.inference.widths.require_multiple(channels, groups)
    _same_channels(call, channels)
    return dims


def along_last(call: Call) -> Dims:
    """`F.layer_norm`, `F.rms_norm` over the last dimension.

    Raises:
        Conflict: they normalise over several.
    """
    dims = call.dims()
    shape: Any = call.option("normalized_shape", 1)
    if len(shape) != 1:
        raise Conflict("a norm over several dimensions")
    channels = as_width(dims[-1])
    if isinstance(shape[0], int) and channels.terms:
        call.literal((1, 0), channels)
    _same_channels(call, channels)
    return dims


def _same_channels(call: Call, channels: Any) -> None:
    for tensor in call.tensors[1:]:
        (dim,) = call.dims(tensor)
        call.inference.widths.equate(as_width(dim), channels)
