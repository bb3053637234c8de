"""Channel rules of what takes dimensions away, or values along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from td_transform.operators.dimensions import Dims, TensorInfo
from td_transform.operators.registry import Call
from td_transform.operators.rules import same
from td_transform.operators.widths import Width


def reducing(
    dim: int = 1, keepdim: int = 2, over: tuple[int, ...] | None = None
) -> Callable[[Call], Any]:
    """Mean, sum, variance ... over some dimensions, or all; of several results each is as large.

    Args:
        dim: where a function's arguments have the dimensions.
        keepdim: and whether they are kept.
        over: the dimensions where none are given, None for all.
    """

    def infer(call: Call) -> Any:
        dims, axes = call.dims(), call.option("dim", dim, over)
        if isinstance(axes, int) and not isinstance(axes, bool):
            axes = [axes]
        given = axes if isinstance(axes, (tuple, list)) else range(len(dims))
        gone = {axis % len(dims) for axis in given}
        if call.option("keepdim", keepdim, False):
            rest = tuple(Width.of(1) if i in gone else d for i, d in enumerate(dims))
        else:
            rest = tuple(d for i, d in enumerate(dims) if i not in gone)
        result = call.values[call.node]
        return rest if isinstance(result, TensorInfo) else (rest,) * len(result)

    return infer


def extreme(call: Call) -> Any:
    """The largest or smallest: of two tensors, of all values, or along a dimension with its place."""
    return same(call) if len(call.tensors) > 1 else reducing()(call)


def largest(call: Call) -> tuple[Dims, Dims]:
    """The k largest along a dimension, with their places."""
    dims, k = list(call.dims()), call.option("k", 1)
    axis = int(call.option("dim", 2, -1)) % len(dims)
    asked = call.inference.dims.get(k) if isinstance(k, fx.Node) else None
    dims[axis] = asked if isinstance(asked, Width) else Width.of(int(call.number("k", 1)))
    return tuple(dims), tuple(dims)


def in_order(call: Call) -> tuple[Dims, Dims]:
    """Sorted values, with their places."""
    return call.dims(), call.dims()


def unbind(call: Call) -> tuple[Dims, ...]:
    """One tensor for every place along a dimension, which keeps its size."""
    dims, shape = call.dims(), call.shape()
    axis = int(call.option("dim", 1, 0)) % len(dims)
    if isinstance(parted := dims[axis], Width):
        call.inference.widths.equate(parted, Width.of(shape[axis]))
    return ((*dims[:axis], *dims[axis + 1 :]),) * shape[axis]
