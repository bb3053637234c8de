"""Channel rules of Fourier transforms: frequencies are no axis of a map."""

from __future__ import annotations

from typing import Any

from torch import fx

from td_transform.operators.dimensions import FLAT, Dim, Dims, Spatial
from td_transform.operators.registry import Call
from td_transform.operators.remembering import remembered
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Conflict, Width


def transformed(call: Call) -> Dims:
    """Along every dimension as many values as before, or the axes among those dimensions are mere
    numbers: one half of the frequencies is enough for a map of real values, which has its axes again
    where the code asks for another map's sizes, or has those of one that was met.

    Raises:
        Conflict: another number of channels, or of a flattened map's positions.
    """
    dims, before, after = list(call.dims()), call.shape(), call.values[call.node].shape
    along = _along(call)
    if all(before[i] == after[i] for i in along):
        return tuple(dims)
    asked = _asked(call, along)
    if _name(call).startswith("fft_rfft"):
        asked[along[-1]] = None  # half of what it asks for
    for i in along:
        dim, wanted = dims[i], asked[i]
        if isinstance(dim, Width):
            if dim.terms and before[i] != after[i]:
                raise Conflict("other frequencies of channels")
        elif dim.axis == FLAT:
            raise Conflict("other frequencies of a flattened map")
        if isinstance(wanted, Spatial):
            dims[i] = wanted
        elif isinstance(dim, Spatial) or before[i] != after[i]:
            dims[i] = Width.of(after[i])
    return remembered(call, tuple(dims), after)


def _along(call: Call) -> list[int]:
    """The dimensions that it transforms."""
    rank, name = len(call.shape()), _name(call)
    default: Any = (-2, -1) if name.endswith("2") else None if name.endswith("n") else -1
    given = call.option("dim", 2, default)
    if given is None:
        sizes = call.option("s", 1)
        given = range(rank) if sizes is None else range(-len(sizes), 0)
    return [i % rank for i in ([given] if isinstance(given, int) else given)]


def _name(call: Call) -> str:
    return str(getattr(call.node.target, "__name__", ""))


def _asked(call: Call, along: list[int]) -> dict[int, Dim | None]:
    """What the code asks for at each of them, where that is a size of another tensor."""
    sizes, known = call.option("n", 1, call.node.kwargs.get("s")), call.inference.dims
    if isinstance(sizes, fx.Node):
        sizes = known.get(sizes)
    given = sizes if isinstance(sizes, (tuple, list)) else [sizes] * len(along)
    wanted = [known.get(size) if isinstance(size, fx.Node) else size for size in given]
    return {
        i: size if isinstance(size, (Width, Spatial)) else None
        for i, size in zip(along, wanted, strict=True)
    }


def as_pairs(call: Call) -> Dims:
    """view_as_real: two numbers for each complex one."""
    return (*call.dims(), Width.of(2))


def of_pairs(call: Call) -> Dims:
    """view_as_complex."""
    *dims, pair = call.dims()
    call.inference.widths.equate(as_width(pair), Width.of(2))
    return tuple(dims)
