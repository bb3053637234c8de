"""Channel rules of what takes values from places along a dimension, or puts them there, and of differences
of neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from td_transform.operators.dimensions import Dims, Spatial, TensorInfo
from td_transform.operators.registry import Call
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Conflict, Width

# what says where values stand, in a tensor of integers
_ORDERS = frozenset(
    {"argsort", "sort", "topk", "argmax", "argmin", "max", "min", "median", "kthvalue", "mode"}
)


def gather(call: Call) -> Dims:
    """Shaped like the index, which has the other dimensions of what it picks from."""
    axis, index = _axis(call, 1), call.option("index", 2)
    _check_places(call, axis, index)
    _agree_beside(call, axis, call.input, index)
    return call.dims(index)


def take_along(call: Call) -> Dims:
    """As `gather`, where the index may be broadcast.

    Raises:
        Conflict: of all values in a row.
    """
    index = call.option("indices", 1)
    if call.option("dim", 2) is None:
        raise Conflict("values of all dimensions in a row")
    axis, dims = _axis(call, 2), list(call.dims())
    _check_places(call, axis, index)
    _agree_beside(call, axis, call.input, index)
    dims[axis] = call.dims(index)[axis]
    return tuple(dims)


def scatter(call: Call) -> Dims:
    """Shaped like what is written into; index and values have its other dimensions."""
    axis, index, values = _axis(call, 1), call.option("index", 2), call.option("src", 3)
    _check_places(call, axis, index)
    _agree_beside(call, axis, call.input, index)
    if isinstance(values, fx.Node) and isinstance(call.values[values], TensorInfo):
        _agree_beside(call, axis, call.input, values)
    return call.dims()


def put(call: Call) -> Dims:
    """index_add, index_copy, index_fill: shaped like what is written into, as what is written is beside
    the dimension that it is written along."""
    axis, index, values = _axis(call, 1), call.option("index", 2), _written(call, 3)
    _check_places(call, axis, index)
    if values is not None and call.shape(values):
        _agree_beside(call, axis, call.input, values)
    return call.dims()


def _written(call: Call, position: int) -> fx.Node | None:
    """The tensor of values, None for a number."""
    names = ("source", "src", "value", "tensor")
    named = next((call.node.kwargs[name] for name in names if name in call.node.kwargs), None)
    values = call.option("", position, named)
    is_tensor = isinstance(values, fx.Node) and isinstance(call.values[values], TensorInfo)
    return values if is_tensor else None


def index_select(call: Call) -> Dims:
    """Some places along a dimension: of the images in a batch, or places that an order gave."""
    axis, index = _axis(call, 1), call.option("index", 2)
    dims = list(call.dims())
    _check_places(call, axis, index)
    dims[axis] = call.dims(index)[0]
    return tuple(dims)


def differences(call: Call) -> Dims:
    """Those of neighbours along a dimension, which becomes shorter, by what isn't put at its ends."""
    axis, dims = _axis(call, 2, -1), list(call.dims())
    ends = [end for i, name in ((3, "prepend"), (4, "append")) if (end := call.option(name, i))]
    for end in ends:
        _agree_beside(call, axis, call.input, end)
    if not isinstance(dims[axis], Spatial):
        width = sum((as_width(call.dims(end)[axis]) for end in ends), as_width(dims[axis]))
        dims[axis] = width - Width.of(int(call.option("n", 1, 1)))
    return tuple(dims)


def gradients(call: Call) -> tuple[Dims, ...]:
    """torch.gradient: along each dimension as large as it was.

    Raises:
        Conflict: it is given places.
    """
    if len(call.tensors) > 1:
        raise Conflict("differences of values at given places")
    return (call.dims(),) * len(call.values[call.node])


def compared(call: Call) -> Any:
    """Places among sorted values, as many as there are values to place.

    Raises:
        Conflict: each row has sorted values of its own.
    """
    values, ordered = call.option("input", 1), call.option("sorted_sequence", 0)
    if len(call.shape(ordered)) > 1:
        raise Conflict("sorted values of its own for every row")
    return call.dims(values) if isinstance(values, fx.Node) else ()


def _axis(call: Call, position: int, default: int | None = None) -> int:
    return int(call.option("dim", position, default)) % len(call.shape())


def _agree_beside(call: Call, axis: int, one: fx.Node, other: fx.Node) -> None:
    """Two tensors have the same widths where they are as wide, but along that dimension."""
    tensors = zip(
        *(zip(call.dims(t), call.shape(t), strict=True) for t in (one, other)), strict=True
    )
    for i, ((first, size), (second, as_many)) in enumerate(tensors):
        if i == axis or size != as_many or isinstance(first, Spatial):
            continue
        call.inference.widths.equate(first, as_width(second))


def _check_places(call: Call, axis: int, index: fx.Node) -> None:
    """Places of a dimension that changes have to follow it.

    Raises:
        Conflict: they are mere numbers.
    """
    dim = call.dims()[axis]
    if isinstance(dim, Width) and not dim.terms:
        return
    ordered = _ordered(call, index)
    if ordered is not None and dim in call.dims(ordered):
        return
    as_many = [] if ordered is None else _widths_of_size(call, ordered, call.shape()[axis])
    if len(as_many) != 1 or not isinstance(dim, Width):
        raise Conflict("a map's channels or positions by their number")
    call.inference.widths.equate(dim, as_many[0])


def _widths_of_size(call: Call, tensor: fx.Node, size: int) -> list[Width]:
    sized = zip(call.dims(tensor), call.shape(tensor), strict=True)
    return [dim for dim, own in sized if isinstance(dim, Width) and dim.terms and own == size]


def _ordered(call: Call, index: fx.Node) -> fx.Node | None:
    """The tensor whose order a tensor of places was read off."""
    while _holds_integers(call, index):
        name = getattr(index.target, "__name__", index.target)
        sources = index.all_input_nodes
        if not sources:
            return None
        if name in _ORDERS:
            return sources[0]
        index = sources[0]
    return None


def _holds_integers(call: Call, node: fx.Node) -> bool:
    found = call.values[node]
    infos = found if isinstance(found, tuple) else (found,)
    return any(isinstance(info, TensorInfo) and info.dtype == torch.int64 for info in infos)
