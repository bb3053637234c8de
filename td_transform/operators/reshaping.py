"""Channel rules of operators that only rearrange: permute, view, flatten, squeeze, expand."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from torch import fx

from td_transform.operators.registry import FLAT, Call, Dim, Dims, Spatial
from td_transform.operators.remembering import remembered
from td_transform.operators.widths import Conflict, Width


def permute(call: Call) -> Dims:
    order: Any = call.option("dims", 1)
    order = call.node.args[1:] if isinstance(order, int) else order
    dims = call.dims()
    return tuple(dims[i] for i in order)


def transpose(call: Call) -> Dims:
    dims = list(call.dims())
    a, b = int(call.option("dim0", 1)), int(call.option("dim1", 2))
    dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


def squeeze(call: Call) -> Dims:
    axes = call.option("dim", 1)
    dims, shape = call.dims(), call.shape()
    axes = range(len(dims)) if axes is None else [axes] if isinstance(axes, int) else axes
    gone = {a % len(dims) for a in axes if shape[a] == 1}
    return tuple(d for i, d in enumerate(dims) if i not in gone)


def unsqueeze(call: Call) -> Dims:
    dims = list(call.dims())
    dims.insert(int(call.option("dim", 1)) % (len(dims) + 1), Width.of(1))
    return tuple(dims)


def stack(call: Call) -> Dims:
    """Tensors of one shape along a new dimension."""
    tensors = call.tensors
    dims = list(call.dims())
    for tensor in tensors[1:]:
        for left, right in zip(dims, call.dims(tensor), strict=True):
            if isinstance(left, Width) and isinstance(right, Width):
                call.inference.widths.equate(right, left)
    axis: Any = call.option("dim", 1, 0)
    dims.insert(axis % (len(dims) + 1), Width.of(len(tensors)))
    return tuple(dims)


def reshape(call: Call) -> Dims:
    """view, reshape, flatten: dimensions that are split or joined, the channels among them."""
    before, after = call.shape(), call.values[call.node].shape
    literals = _shape_literals(call, len(after))
    result: list[Dim] = []
    for ins, outs in _factor_groups(before, after):
        dims = [call.dims()[i] for i in ins]
        if len(ins) == len(outs) == 1:
            result.append(dims[0])
        elif (axes := _named_axes(call, dims, outs, after)) is not None:
            result.extend(axes)
        elif _holds_positions(call, dims, [before[i] for i in ins]):
            result.extend(_positions(call, ins, [after[o] for o in outs]))
        else:
            total = _product(call, dims, [before[i] for i in ins])
            result.extend(_split_product(call, total, [after[o] for o in outs], outs, literals))
    for i, given in literals.items():
        dim = result[i]
        if isinstance(dim, Width) and dim.terms and given is not None:
            call.literal(given, dim)
    return remembered(call, tuple(result), after)


def _named_axes(
    call: Call, before: list[Dim], outs: list[int], after: tuple[int, ...]
) -> list[Dim] | None:
    """The axes of a map whose sizes the code asks for: x.view(n, c, h, w) with another's h and w,
    among them where numbers alone were joined (a batch of windows)."""
    arguments = call.node.args[1:]
    if arguments and isinstance(arguments[0], (tuple, list)):
        arguments = tuple(arguments[0])
    if call.module is not None or len(arguments) != len(after):
        return None
    given: list[Any] = [
        call.inference.dims.get(argument) if isinstance(argument, fx.Node) else None
        for argument in (arguments[o] for o in outs)
    ]
    axes = [dim.axis for dim in given if isinstance(dim, Spatial)]
    alone = not any(isinstance(dim, Width) and dim.terms for dim in before)
    if len(outs) < 2 or axes != list(range(call.axes)) or not (alone or len(outs) == call.axes):
        return None
    sizes = [Width.of(after[o]) for o in outs]
    return [d if isinstance(d, Spatial) else n for d, n in zip(given, sizes, strict=True)]


def _holds_positions(call: Call, dims: list[Dim], sizes: list[int]) -> bool:
    """Are these axes of the map alone (among others, where the rules follow that too)?"""
    axes = [isinstance(dim, Spatial) for dim in dims]
    if call.inference.follows_positions:
        return any(axes)
    return any(axes) and all(
        is_axis or size == 1 for is_axis, size in zip(axes, sizes, strict=True)
    )


def _positions(call: Call, ins: list[int], sizes: list[int]) -> list[Dim]:
    """Dimensions of the map that are split or joined; ones that come or go don't count."""
    flat = call.dims()[ins[0]]
    if len(ins) == 1 and isinstance(flat, Spatial) and flat.sizes == tuple(sizes):
        return list(flat.along)
    ins = [i for i in ins if isinstance(call.dims()[i], Spatial) or call.shape()[i] != 1]
    places = [k for k, size in enumerate(sizes) if size != 1] or [len(sizes) - 1]
    moved = _moved(call, ins, [sizes[k] for k in places])
    result: list[Dim] = [Width.of(1)] * len(sizes)
    for k, dim in zip(places, moved, strict=True):
        result[k] = dim
    return result


def _moved(call: Call, ins: list[int], sizes: list[int]) -> list[Dim]:
    """A map that is flattened, or blocks of positions that become channels and back."""
    dims = [call.dims()[i] for i in ins]
    axes = [dim.axis if isinstance(dim, Spatial) else None for dim in dims]
    first, rest = dims[0], axes[1:]
    if len(dims) == len(sizes) == 1:
        return dims
    if axes == list(range(call.axes)) and len(sizes) == 1:
        along = tuple(dim for dim in dims if isinstance(dim, Spatial))
        return [Spatial(FLAT, Fraction(1), along, tuple(call.shape()[i] for i in ins))]
    if isinstance(first, Spatial) and first.axis != FLAT:
        if not rest and len(sizes) == 2:
            return [first.stepped(sizes[1]), Width.of(sizes[1])]
        if rest == [None] and len(sizes) == 1:
            return [first.stepped(Fraction(1, call.shape()[ins[1]]))]
    if 0 in ins or len(sizes) > 1:
        raise Conflict("a reshape that mixes positions of the map with other dimensions")
    return [Width.of(sizes[0])]


def _shape_literals(call: Call, rank: int) -> dict[int, tuple[str | int, ...] | None]:
    """Which output dimensions are integers in the code, and at which place of the arguments."""
    if call.module is not None or call.node.target in ("flatten", "unflatten"):
        return {}
    arguments = call.node.args[1:]
    path: tuple[str | int, ...] = ()
    if arguments and isinstance(arguments[0], (tuple, list)):
        arguments, path = tuple(arguments[0]), (1,)
    if len(arguments) != rank:
        return {}
    places: dict[int, tuple[str | int, ...] | None] = {}
    for i, argument in enumerate(arguments):
        if isinstance(argument, int) and argument >= 0:
            places[i] = (*path, i) if path else (i + 1,)
    return places


def _factor_groups(
    before: tuple[int, ...], after: tuple[int, ...]
) -> list[tuple[list[int], list[int]]]:
    """The finest groups of neighbouring dimensions with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = o = 0
    while i < len(before) or o < len(after):
        ins, outs = [i] if i < len(before) else [], [o] if o < len(after) else []
        i, o = i + len(ins), o + len(outs)
        left, right = math.prod(before[a] for a in ins), math.prod(after[b] for b in outs)
        while left != right:
            if left < right:
                ins.append(i)
                left, i = left * before[i], i + 1
            else:
                outs.append(o)
                right, o = right * after[o], o + 1
        groups.append((ins, outs))
    return groups


def _product(call: Call, dims: list[Dim], sizes: list[int]) -> Width:
    total = Width.of(1)
    for dim, size in zip(dims, sizes, strict=True):
        factor = dim if isinstance(dim, Width) else Width.of(size)
        if factor.terms and total.terms:
            raise Conflict("a product of two widths")
        total = total * factor.const if not factor.terms else factor * total.const
    return total


def _split_product(
    call: Call,
    total: Width,
    sizes: list[int],
    outs: list[int],
    literals: dict[int, tuple[str | int, ...] | None],
) -> list[Dim]:
    """One factor takes the width, the others stay: a computed one rather than one in the code."""
    if not outs:
        return []
    if not total.terms:
        return [Width.of(s) for s in sizes]
    movable = [k for k, o in enumerate(outs) if o not in literals and sizes[k] != 1]
    chosen = movable[-1] if movable else max(range(len(sizes)), key=lambda k: (sizes[k], k))
    rest = math.prod(s for k, s in enumerate(sizes) if k != chosen)
    call.inference.widths.require_multiple(total, rest)
    return [total * Fraction(1, rest) if k == chosen else Width.of(s) for k, s in enumerate(sizes)]


def expand(call: Call) -> Dims:
    after = call.values[call.node].shape
    dims = (*(Width.of(1) for _ in range(len(after) - len(call.dims()))), *call.dims())
    before = (*(1 for _ in range(len(after) - len(call.shape()))), *call.shape())
    return tuple(d if b == a else Width.of(a) for d, b, a in zip(dims, before, after, strict=True))
