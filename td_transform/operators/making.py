"""Channel rules of tensors that the forward makes itself, and of what is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from td_transform.operators.dimensions import Dim, Dims, Spatial
from td_transform.operators.registry import Call
from td_transform.operators.rules import same
from td_transform.operators.widths import Conflict, Width


def made(call: Call) -> Dims:
    """zeros, ones, rand ...: of the sizes that they are given."""
    sizes: Any = call.option("size", 0)
    sizes = sizes if isinstance(sizes, (tuple, list)) else call.node.args
    return _asked(call, sizes)


def made_like(call: Call) -> Dims:
    """x.new_zeros and others: of the sizes that they are given, of x they take the type alone."""
    sizes: Any = call.option("size", 1)
    return _asked(call, sizes if isinstance(sizes, (tuple, list)) else call.node.args[1:])


def eye(call: Call) -> Dims:
    """As many rows and columns as there are channels; a matrix of positions by positions is no map."""
    rows = call.option("n", 0)
    dims = _asked(call, [rows, call.option("m", 1, rows)])
    sizes = call.values[call.node].shape
    return tuple(
        Width.of(n) if isinstance(dim, Spatial) else dim for dim, n in zip(dims, sizes, strict=True)
    )


def counted(call: Call) -> Dims:
    """arange: as many as it counts.

    Raises:
        Conflict: it doesn't count from 0 in steps of 1.
    """
    args = call.node.args
    if len(args) == 2 and args[0] == 0:
        args = args[1:]
    if len(args) != 1:
        raise Conflict("a range that doesn't count from 0")
    return _asked(call, args)


def drawn(call: Call) -> Dims:
    """randint, normal: of the sizes that they are given behind their bounds, or as a tensor of those."""
    given: Any = next(filter(_is_list, call.node.args), None)
    sizes: Any = call.node.kwargs.get("size", given)
    if sizes is None:
        return same(call)
    return _asked(call, sizes)


def _is_list(argument: Any) -> bool:
    return isinstance(argument, (tuple, list))


def listed(call: Call) -> Dims:
    """torch.tensor, x.new_tensor: values that the code writes out; what is a tensor already stays."""
    name = "obj" if call.node.target is torch.asarray else "data"
    values = call.option(name, 1 if call.node.target == "new_tensor" else 0)
    if isinstance(values, fx.Node) and values in call.tensors:
        return call.dims(values)
    return tuple(map(Width.of, call.values[call.node].shape))


def one_hot(call: Call) -> Dims:
    """A channel for each class, as many as the code asks for."""
    classes = call.option("num_classes", 1, -1)
    return (*call.dims(), _dim(call, classes, call.values[call.node].shape[-1]))


def divided(call: Call) -> Dims:
    """linspace: as many values as it has steps."""
    return _asked(call, [call.option("steps", 2)])


def _asked(call: Call, sizes: Sequence[Any]) -> Dims:
    after = call.values[call.node].shape
    return tuple(_dim(call, size, n) for size, n in zip(sizes, after, strict=True))


def _dim(call: Call, size: Any, number: int) -> Dim:
    """The dimension that the code asks of a tensor; any other number stays."""
    dim = call.inference.dims.get(size) if isinstance(size, fx.Node) else None
    return dim if isinstance(dim, (Width, Spatial)) else Width.of(number)


def affine_grid(call: Call) -> Dims:
    """A place for every position of a map of the sizes that it is given; matrices have no widths."""
    theta = call.option("theta", 0)
    for dim, size in zip(call.dims(theta), call.shape(theta), strict=True):
        if isinstance(dim, Width):
            call.inference.widths.equate(dim, Width.of(size))
    batch, _, *sizes = call.option("size", 1)
    batch_size, *after = call.values[call.node].shape
    axes = (_dim(call, size, n) for size, n in zip(sizes, after, strict=False))
    return (_dim(call, batch, batch_size), *axes, Width.of(len(sizes)))


def grid_sample(call: Call) -> Dims:
    """The channels of a map at the places of a grid."""
    grid = call.option("grid", 1)
    *places, last = call.dims(grid)
    if isinstance(last, Width):
        call.inference.widths.equate(last, Width.of(call.shape(grid)[-1]))
    return (*call.dims()[:2], *places[1:])


def expand(call: Call) -> Dims:
    """A dimension of size 1 becomes as large as the code asks."""
    after = call.values[call.node].shape
    if call.node.target == "expand_as":
        asked: Sequence[Dim] = call.dims(call.option("other", 1))
    else:
        sizes = call.node.args[1:]
        given = sizes[0] if sizes and isinstance(sizes[0], (tuple, list)) else sizes
        asked = [_dim(call, size, n) for size, n in zip(given, after, strict=True)]
    dims, before = _padded(call, len(after))
    found: list[Dim] = []
    for dim, size, number, wanted in zip(dims, before, after, asked, strict=True):
        found.append(dim if size == number else wanted)
        if size != number and isinstance(dim, Width):
            call.inference.widths.equate(dim, Width.of(size))
    return tuple(found)


def repeat(call: Call) -> Dims:
    """Every dimension several times over.

    Raises:
        Conflict: channels as often as there are channels, or positions more than once.
    """
    after = call.values[call.node].shape
    times: Any = call.node.args[1:]
    times = times[0] if times and isinstance(times[0], (tuple, list)) else times
    dims, before = _padded(call, len(after))
    return tuple(
        _times(call, dim, size, factor)
        for dim, size, factor in zip(dims, before, times, strict=True)
    )


def repeat_interleave(call: Call) -> Dims:
    """One dimension, each of its places several times over.

    Raises:
        Conflict: it flattens the tensor, or repeats places differently.
    """
    axis, factor = call.option("dim", 2), call.option("repeats", 1)
    if axis is None or not isinstance(call.number("repeats", 1), int):
        raise Conflict("a repetition that differs from place to place")
    dims = list(call.dims())
    axis = int(axis) % len(dims)
    dims[axis] = _times(call, dims[axis], call.shape()[axis], factor)
    return tuple(dims)


def _times(call: Call, dim: Dim, size: int, factor: Any) -> Dim:
    number = call.values[factor] if isinstance(factor, fx.Node) else factor
    asked = _dim(call, factor, number)
    if number == 1:
        return dim
    if isinstance(dim, Spatial) or (isinstance(asked, Spatial) and size != 1):
        raise Conflict("positions that are repeated")
    if isinstance(asked, Spatial) or asked.terms:
        call.inference.widths.equate(dim, Width.of(size))
        return asked if isinstance(asked, Spatial) else asked * size
    return dim * int(number)


def _padded(call: Call, rank: int) -> tuple[Dims, tuple[int, ...]]:
    """Dimensions and sizes of the input, with ones in front."""
    more = rank - len(call.dims())
    return (Width.of(1),) * more + call.dims(), (1,) * more + call.shape()
