"""Channel rules of operators that only rearrange: permute, view, flatten, squeeze."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from td_transform.operators.dimensions import FLAT, Dim, Dims, Spatial
from td_transform.operators.registry import Call
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


def rotated(call: Call) -> Dims:
    """A plane of two dimensions, turned by quarters."""
    dims = list(call.dims())
    a, b = call.option("dims", 2, (0, 1))
    if call.option("k", 1, 1) % 2:
        dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


def turned(call: Call) -> Dims:
    """x.t(): a matrix turned; fewer dimensions stay."""
    return call.dims()[::-1]


def moved(call: Call) -> Dims:
    """Some dimensions moved to other places, between the others in their order."""
    dims = call.dims()
    pairs = (call.option("source", 1), call.option("destination", 2))
    sources, places = (
        [a % len(dims) for a in ([axes] if isinstance(axes, int) else axes)] for axes in pairs
    )
    found = dict(zip(places, (dims[a] for a in sources), strict=True))
    others = iter([dim for a, dim in enumerate(dims) if a not in sources])
    return tuple(found[a] if a in found else next(others) for a in range(len(dims)))


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


def in_any_memory(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What does the same as a view to a shape, however the tensor lies in memory; others as they are."""
    to_shape = target == "view" and not kwargs and not isinstance(args[-1], torch.dtype)
    return "reshape" if to_shape else target


def reshape(call: Call) -> Dims:
    """view, reshape, flatten: dimensions that are split or joined, the channels among them."""
    before, after = call.shape(), call.values[call.node].shape
    result: list[Dim] = []
    for ins, outs in _with_rests(call, _factor_groups(before, after)):
        dims = [call.dims()[i] for i in ins]
        if len(ins) == len(outs) == 1:
            result.append(dims[0])
        elif (axes := _named_axes(call, dims, outs, after)) is not None:
            _keep_numbers(call, ins)
            result.extend(axes)
        elif _holds_positions(call, dims, [before[i] for i in ins]):
            _keep_numbers(call, [i for i in ins if before[i] == 1])
            result.extend(_positions(call, ins, [after[o] for o in outs]))
        else:
            total = _product(call, dims, [before[i] for i in ins])
            result.extend(_split_product(call, total, [after[o] for o in outs], outs))
    _equate_asked(call, result)
    _literals(call, result)
    if sum(isinstance(dim, Spatial) for dim in result) < call.axes:
        result = _with_named_axes(call, result)
    return remembered(call, tuple(result), after)


def reshape_as(call: Call) -> Dims:
    """x.view_as(y): shaped as y, with as many channels.

    Raises:
        Conflict: it joins two widths.
    """
    other = call.option("other", 1)
    before, after, dims = call.shape(), call.shape(other), call.dims(other)
    for ins, outs in _factor_groups(before, after):
        ours = _product(call, [call.dims()[i] for i in ins], [before[i] for i in ins])
        theirs = _product(call, [dims[o] for o in outs], [after[o] for o in outs])
        call.inference.widths.equate(ours, theirs)
    return dims


def _named_axes(
    call: Call, before: list[Dim], outs: list[int], after: tuple[int, ...]
) -> list[Dim] | None:
    """The axes of a map whose sizes the code asks for: x.view(n, c, h, w) with another's h and w,
    among them where numbers alone were joined (a batch of windows)."""
    asked = _asked(call, len(after))
    given = [asked[o] for o in outs] if asked else []
    axes = [dim.axis for dim in given if isinstance(dim, Spatial)]
    alone = not any(isinstance(dim, Width) and dim.terms for dim in before)
    if len(outs) < 2 or axes != list(range(call.axes)) or not (alone or len(outs) == call.axes):
        return None
    sizes = [Width.of(after[o]) for o in outs]
    return [d if isinstance(d, Spatial) else n for d, n in zip(given, sizes, strict=True)]


def _keep_numbers(call: Call, ins: list[int]) -> None:
    """What is laid out as a map's positions (rows of a table), or joined with them, are as many whatever
    the widths."""
    for i in ins:
        dim = call.dims()[i]
        if isinstance(dim, Width) and dim.terms:
            call.inference.widths.equate(dim, Width.of(call.shape()[i]))


def _with_named_axes(call: Call, dims: list[Dim]) -> list[Dim]:
    """What windows are put together to, or channels that rows were folded into: a map whose sizes the
    code asks for."""
    asked = _asked(call, len(dims))
    named = [dim.axis for dim in asked if isinstance(dim, Spatial)]
    if named != list(range(call.axes)):
        return dims
    return [a if isinstance(a, Spatial) else dim for dim, a in zip(dims, asked, strict=True)]


def _asked(call: Call, rank: int) -> list[Any]:
    """Per output dimension what the code gives for it: an integer, or the dimension that it asked of
    a tensor (None where it computed with that). Empty where it gives none."""
    arguments = _given(call).values()
    if len(arguments) != rank:
        return []
    found = [call.inference.dims.get(a) if isinstance(a, fx.Node) else a for a in arguments]
    return [call.inference.widths.resolve(a) if isinstance(a, Width) else a for a in found]


def _given(call: Call) -> dict[tuple[str | int, ...], Any]:
    """The sizes that a view is given, by their paths among the node's arguments; -1 for those that
    it leaves."""
    target, arguments = call.node.target, call.node.args[1:]
    if call.module is not None or target in (torch.flatten, "flatten"):
        return {}
    if target in (torch.unflatten, "unflatten"):
        return _parted(call)
    if arguments and isinstance(arguments[0], (tuple, list)):
        return {(1, i): size for i, size in enumerate(arguments[0])}
    return {(1 + i,): size for i, size in enumerate(arguments)}


def _parted(call: Call) -> dict[tuple[str | int, ...], Any]:
    """The same where one dimension is parted."""
    dim: Any = call.option("dim", 1)
    sizes: Any = call.node.args[2] if len(call.node.args) > 2 else ()
    if not sizes:
        return {}
    ahead = dim % len(call.shape())
    behind = len(call.shape()) - ahead - 1
    parts = enumerate([-1] * ahead + list(sizes) + [-1] * behind, start=-ahead)
    return {(2, i): size for i, size in parts}


def _equate_asked(call: Call, result: list[Dim]) -> None:
    """A width that the code asks for is the one that comes out; other numbers that it computes stay."""
    after = call.values[call.node].shape
    for dim, size, asked in zip(result, after, _asked(call, len(result)), strict=False):
        if isinstance(dim, Width) and not isinstance(asked, int):
            known = asked if isinstance(asked, Width) else Width.of(size)
            call.inference.widths.equate(dim, known)


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
    if axes == [FLAT] and isinstance(first, Spatial) and first.sizes == tuple(sizes):
        return list(first.along)
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


def _literals(call: Call, dims: list[Dim]) -> None:
    """Integers in the code that are widths."""
    given = _given(call)
    if len(given) != len(dims):
        return
    for (path, argument), dim in zip(given.items(), dims, strict=True):
        if isinstance(argument, int) and argument >= 0 and isinstance(dim, Width) and dim.terms:
            call.literal(path, dim)


Groups = list[tuple[list[int], list[int]]]


def _with_rests(call: Call, groups: Groups) -> Groups:
    """Channels in as many groups as there are channels: at another width more than one is in each, so
    that a dimension of size one which is left open, or is such a rest, is one of the factors."""
    before, after = call.shape(), call.values[call.node].shape
    asked = _asked(call, len(after))
    for (ins, outs), (ins_behind, outs_behind) in pairwise(groups):
        rest = next(iter(outs_behind), None)
        if len(ins) > len(outs) == 1 and asked and rest is not None and after[rest] == 1:
            is_given = isinstance(asked[outs[0]], int) or _is_width(asked[outs[0]])
            if asked[rest] == -1 and not is_given:
                outs.append(outs_behind.pop(0))
        rest = next(iter(ins_behind), None)
        if (
            len(outs) > len(ins) == 1
            and rest is not None
            and before[rest] == 1
            and _is_width(call.dims()[rest])
        ):
            ins.append(ins_behind.pop(0))
    return groups


def _is_width(dim: Any) -> bool:
    return isinstance(dim, Width) and bool(dim.terms)


def _factor_groups(before: tuple[int, ...], after: tuple[int, ...]) -> Groups:
    """The finest groups of neighbouring dimensions with equal products."""
    groups: Groups = []
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
        factor = call.inference.widths.resolve(dim) if isinstance(dim, Width) else Width.of(size)
        if factor.terms and total.terms:
            raise Conflict("a product of two widths")
        total = total * factor.const if not factor.terms else factor * total.const
    return total


def _split_product(call: Call, total: Width, sizes: list[int], outs: list[int]) -> list[Dim]:
    """One factor takes the width, the others stay."""
    result: list[Dim] = [Width.of(size) for size in sizes]
    total = call.inference.widths.resolve(total)
    if not outs or not total.terms:
        return result
    chosen = _movable(call, sizes, outs)
    rest = math.prod(size for k, size in enumerate(sizes) if k != chosen)
    call.inference.widths.require_multiple(total, rest)
    result[chosen] = total * Fraction(1, rest)
    return result


def _movable(call: Call, sizes: list[int], outs: list[int]) -> int:
    """Which factor takes the width: one that the code asks of a tensor where its channels stand, one
    that is left to follow from the others, or else the largest integer in the code.

    Raises:
        Conflict: none is, as where the code computes them from other sizes than channels.
    """
    asked = _asked(call, len(call.values[call.node].shape))
    places = [
        k for k, o in enumerate(outs) if sizes[k] != 1 or (asked and asked[o] == -1 and k)
    ] or [len(sizes) - 1]
    if len(places) == 1:
        return places[0]
    for group in (
        ()
        if not asked
        else (
            [k for k in places if isinstance(asked[outs[k]], Width) and asked[outs[k]].terms],
            [k for k in places if asked[outs[k]] == -1],
            [k for k in places if isinstance(asked[outs[k]], int)],
        )
    ):
        if group:
            return max(group, key=lambda k: (sizes[k], k))
    raise Conflict("sizes that are none of the channels', where those are split")
