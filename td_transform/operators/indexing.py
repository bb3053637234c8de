"""Rules for sizes, arithmetic on sizes, and indexing of tensors and tuples."""

from __future__ import annotations

import operator as op
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from td_transform.operators.dimensions import FLAT, Dim, Dims, Spatial, TensorInfo
from td_transform.operators.registry import Call
from td_transform.operators.widths import Conflict, Variable, Width


def size(call: Call) -> Any:
    """``x.size()``, ``x.size(i)``, ``x.shape``: dimensions as values."""
    dims = call.dims()
    index = call.option("dim", 1)
    return dims[index] if isinstance(index, int) else dims


def attribute(call: Call) -> Any:
    """``getattr(x, name)``: the shape carries dimensions, and so do parts of complex numbers."""
    return call.dims() if call.node.args[1] in ("shape", "real", "imag") else None


def arithmetic(call: Call) -> Dim | None:
    """Sizes times, divided by, plus or minus an integer."""
    if len(call.node.args) < 2:
        return None
    left, right = (_operand(call, argument) for argument in call.node.args[:2])
    target = call.node.target
    if target in (op.floordiv, op.add, op.sub) and (stepped := _stepped(call)) is not None:
        return stepped
    is_number = isinstance(left, int) or (isinstance(left, Width) and not left.terms)
    if is_number and target in (op.mul, op.add):
        left, right = right, left
    if isinstance(right, Width) and not right.terms:
        if isinstance(left, Spatial) and target is op.mul:
            return None  # the positions of all images in a row are no axis
        right = int(right.const)  # the number of images, say
    if target is op.mul and (laid := _rows_of_channels(call, left, right)) is not None:
        return laid
    if not isinstance(right, int) or left is None or isinstance(left, int):
        return None
    if target is op.mod and isinstance(left, Width) and call.values[call.node] == 0:
        call.inference.widths.require_multiple(left, right)
        return Width.of(0)
    if target is op.mul:
        return _times(left, Fraction(right))
    if target in (op.floordiv, op.truediv):
        return _times(left, Fraction(1, right))
    if target in (op.add, op.sub) and isinstance(left, Width):
        return left + Width.of(right if target is op.add else -right)
    return None


def _rows_of_channels(call: Call, left: Any, right: Any) -> Width | None:
    """So many channels for each position along an axis, laid in one (a spectrogram's rows)."""
    for width, axis, place in ((left, right, 1), (right, left, 0)):
        if isinstance(width, Width) and isinstance(axis, Spatial) and axis.axis != FLAT:
            rows: Any = call.node.args[place]
            return width * int(call.values[rows])
    return None


def _stepped(call: Call) -> Spatial | None:
    """(h + b) // k + c is an axis after steps of k where b // k + c = 0: rounded up, or with a
    convolution's kernel and padding."""
    division, behind = _without_summands(call.node)
    if division.target is not op.floordiv or type(division.args[1]) is not int:
        return None
    total, step = division.args
    summand, ahead = _without_summands(total)
    axis = call.inference.dims.get(summand)
    if not isinstance(axis, Spatial) or axis.axis == FLAT or ahead // step + behind != 0:
        return None
    return axis.stepped(step)


def _without_summands(node: Any) -> tuple[Any, int]:
    """A number without the integers that are added to it, and their sum."""
    total = 0
    while isinstance(node, fx.Node) and node.target in (op.add, op.sub):
        left, right = node.args
        if node.target is op.add and type(left) is int:
            left, right = right, left
        if type(right) is not int:
            break
        total += right if node.target is op.add else -right
        node = left
    return node, total


def _operand(call: Call, argument: Any) -> Any:
    return call.inference.dims.get(argument) if isinstance(argument, fx.Node) else argument


def _times(dim: Dim, factor: Fraction) -> Dim:
    return dim.stepped(1 / factor) if isinstance(dim, Spatial) else dim * factor


def getitem(call: Call) -> Any:
    """Indexing of a tensor (slices, integers, None, ...) or of a tuple."""
    index = call.node.args[1]
    if not isinstance(call.values[call.input], TensorInfo):
        parts = call.inference.dims[call.input]
        return parts[index] if parts is not None else None
    single = not isinstance(index, tuple)
    dims, shape = call.dims(), call.shape()
    items = spelt_out(index, len(shape))
    places = _places(index, len(items))
    result: list[Dim] = []
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            result.append(Width.of(1))
            continue
        if isinstance(item, slice):
            path = (1,) if single else (1, places[place])
            result.append(_slice(call, dims[axis], item, shape[axis], axis, path))
        elif isinstance(call.values.get(item) if isinstance(item, fx.Node) else None, TensorInfo):
            result.extend(_gathered(call, item, dims[axis], shape[axis]))
        else:
            _fix(call, dims[axis], shape[axis])
        axis += 1
    return (*result, *dims[axis:])


def assigned(call: Call) -> Dims:
    """``x[index] = value``, as a function that gives x: what is written is as wide as its place."""
    picked, value = getitem(call), call.node.args[2]
    if isinstance(value, fx.Node) and isinstance(info := call.values[value], TensorInfo):
        written = zip(
            reversed(picked), reversed(call.dims(value)), reversed(info.shape), strict=False
        )
        for place, dim, size in written:
            if isinstance(place, Width) and isinstance(dim, Width) and size > 1:
                call.inference.widths.equate(place, dim)
    return call.dims()


def _gathered(call: Call, places: fx.Node, dim: Dim, size: int) -> Dims:
    """What a tensor of places picks is shaped like it; what it picks from keeps its size.

    Raises:
        Conflict: a mask, of which as many are picked as are true; or it picks from a map.
    """
    if call.values[places].dtype == torch.bool:
        raise Conflict("a mask as an index")
    if any(isinstance(dim, Spatial) for dim in call.dims()):
        raise Conflict("a map's channels or positions by their number")
    _fix(call, dim, size)
    return call.dims(places)


def _fix(call: Call, dim: Dim, size: int) -> None:
    """Keep a width of which one or some are picked by their number."""
    if isinstance(dim, Width) and dim.terms:
        call.inference.widths.equate(dim, Width.of(size))


def spelt_out(index: Any, rank: int) -> list[Any]:
    """The items of an index, with slices in place of an ellipsis."""
    items = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in items:
        place = items.index(Ellipsis)
        named = sum(item is not None for item in items) - 1
        items[place : place + 1] = [slice(None)] * (rank - named)
    return items


def _places(index: Any, count: int) -> list[int]:
    """Where each of an index's items stands in it; those of an ellipsis in its place."""
    written = list(index) if isinstance(index, tuple) else [index]
    more = count - len(written)
    if Ellipsis not in written:
        return list(range(count))
    place = written.index(Ellipsis)
    return [*range(place), *([place] * (more + 1)), *range(place + 1, len(written))]


def _slice(
    call: Call, dim: Dim, item: slice, size: int, axis: int, path: tuple[str | int, ...]
) -> Dim:
    step = item.step or 1
    if isinstance(dim, Spatial):
        return dim.stepped(step) if not dim.ahead else _tokens(call, dim, item)
    if (_numbers(call, item).stop or 0) > size:
        _fix(call, dim, size)  # a bound behind the end is the end, at this width
        item = slice(item.start, None, item.step)
    if item.start is None and item.stop is None and step == 1:
        return dim
    start = _bound(call, dim, item.start, size, axis, (*path, "start"), Width())
    stop = _bound(call, dim, item.stop, size, axis, (*path, "stop"), dim)
    span = stop - start
    taken = range(*_numbers(call, item).indices(size))
    widths = call.inference.widths
    is_kernel = call.input.op == "get_attr"
    if is_kernel and span.terms and widths.value(span, widths.bottom_up) == len(taken) > 0:
        # a kernel has some rows at every width, while a map may lose the channels beside a shortcut
        # (ReXNet); what was rounded down is told by itself
        widths.define(Variable(call.node.name, f"of dimension {axis}"), span)
    if step != 1:
        # a last step that is cut short counts as a whole one
        span = span + Width.of(len(taken) * step - (taken.stop - taken.start))
        widths.require_multiple(span, step)
    return span * Fraction(1, step)


def _tokens(call: Call, dim: Spatial, item: slice) -> Dim:
    """Tokens ahead of a flattened map's positions, or the positions without some of them.

    Raises:
        Conflict: it parts the positions themselves.
    """
    item = _numbers(call, item)
    start, stop = item.start or 0, item.stop
    if item.step in (None, 1) and 0 <= start <= dim.ahead:
        if stop is None:
            return replace(dim, ahead=dim.ahead - start)
        if start <= stop <= dim.ahead:
            return call.inference.tokens_of(stop - start)
    raise Conflict("positions of a map in several parts")


def _numbers(call: Call, item: slice) -> slice:
    """A slice with the sizes that the model computes itself made concrete."""
    bounds = (item.start, item.stop, item.step)
    return slice(*(call.values[b] if isinstance(b, fx.Node) else b for b in bounds))


def _bound(
    call: Call,
    dim: Width,
    bound: Any,
    size: int,
    axis: int,
    path: tuple[str | int, ...],
    default: Width,
) -> Width:
    """A slice's bound: the same bound of the same tensor is the same width."""
    if bound is None:
        return default
    if isinstance(bound, fx.Node):
        known = call.inference.dims.get(bound)
        if isinstance(known, Width) and dim.terms and call.values[bound] == size:
            call.inference.widths.equate(known, dim)  # all of it: a kernel cut to what it reads
        return known if isinstance(known, Width) else Width.of(call.values[bound])
    if bound == 0 or not dim.terms:
        return Width.of(bound)
    if bound == size:
        call.literal(path, dim)
        return dim
    if bound < -size:
        return Width()
    widths = call.inference.widths
    place = bound % size if bound > 0 else size + bound
    ahead = Variable(call.input.name, f"up to {place} of dimension {axis}")
    behind = Variable(call.input.name, f"last {size - place} of dimension {axis}")
    if bound > 0:
        known = behind in widths.bottom_up
        width = dim - Width.variable(behind) if known else widths.variable(ahead, place)
        call.literal(path, width)
        return width
    if ahead in widths.bottom_up:
        call.literal(path, Width.variable(ahead) - dim)
        return Width.variable(ahead)
    last = widths.variable(behind, size - place)
    call.literal(path, Width() - last)
    # there have to be as many: what is left, and one, is a width
    widths.define(
        Variable(call.input.name, f"{behind.what}, and no more"), dim - last + Width.of(1)
    )
    return dim - last
