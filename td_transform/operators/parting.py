"""Channel rules of what parts a tensor along a dimension."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from torch import fx

from td_transform.operators.dimensions import Dims, Spatial
from td_transform.operators.registry import Call
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Conflict, Variable, Width

# what the sizes of parts are called
_SIZES = ("split_size", "split_size_or_sections", "split_sizes")


def chunk(call: Call) -> tuple[Dims, ...]:
    return _even_parts(call, call.option("chunks", 1))


def tensor_split(call: Call) -> tuple[Dims, ...]:
    """Parts by their number.

    Raises:
        Conflict: they aren't equal, or places are given.
    """
    count, dim = call.option("indices_or_sections", 1), int(call.option("dim", 2, 0))
    if not isinstance(count, int) or call.shape()[dim] % count:
        raise Conflict("parts that aren't equal")
    return _even_parts(call, count)


def _even_parts(call: Call, count: int) -> tuple[Dims, ...]:
    dims = call.dims()
    axis = int(call.option("dim", 2, 0)) % len(dims)
    width = as_width(dims[axis])
    call.inference.widths.require_multiple(width, count)
    part = (*dims[:axis], width * Fraction(1, count), *dims[axis + 1 :])
    return (part,) * len(call.values[call.node])


def split(call: Call) -> tuple[Dims, ...]:
    """Parts of given sizes: each is a width of its own, and together they are the whole."""
    dims = call.dims()
    axis = int(call.option("dim", 2, 0)) % len(dims)
    named = next((name for name in _SIZES if name in call.node.kwargs), None)
    sizes, place = (call.node.args[1], 1) if named is None else (call.node.kwargs[named], named)
    shapes = [info.shape for info in call.values[call.node]]
    tokens = dims[axis]
    if isinstance(tokens, Spatial):
        if [shape[axis] for shape in shapes[:-1]] != [tokens.ahead]:
            raise Conflict("positions of a map in several parts")
        parted = (call.inference.tokens_of(tokens.ahead), replace(tokens, ahead=0))
        return tuple((*dims[:axis], part, *dims[axis + 1 :]) for part in parted)
    widths, whole = call.inference.widths, as_width(dims[axis])
    if not whole.terms:
        return tuple((*dims[:axis], Width.of(s[axis]), *dims[axis + 1 :]) for s in shapes)
    single = isinstance(sizes, (int, fx.Node))
    even = single and shapes[0][axis] * len(shapes) == call.shape()[axis]
    parts: list[Width] = []
    for i, shape in enumerate(shapes):
        if even:
            parts.append(whole * Fraction(1, len(shapes)))
        elif single and 0 < i < len(shapes) - 1:
            parts.append(parts[0])  # what is left over is the last part
        else:
            parts.append(widths.variable(Variable(call.node.name, f"part {i}"), shape[axis]))
        if isinstance(sizes, (list, tuple)) and isinstance(sizes[i], int):
            call.literal((place, i), parts[-1])
    if even:
        widths.require_multiple(whole, len(shapes))
    if isinstance(sizes, int):
        call.literal((place,), parts[0])
    total = Width()
    for width in parts:
        total = total + width
    widths.equate(total, whole)
    return tuple((*dims[:axis], width, *dims[axis + 1 :]) for width in parts)
