"""Analyse: the widths of a segment, given what flows into it."""

from __future__ import annotations

from torch import fx

from td_transform.analyse.infer import infer
from td_transform.analyse.trunk import Segment, Trunk
from td_transform.layers.axes import STANDARD
from td_transform.operators import Dims, Inference
from td_transform.operators.widths import INFLOW, Width


def solve(
    trunk: Trunk, segment: Segment, *, passed: frozenset[fx.Node] = frozenset()
) -> tuple[Inference, Width]:
    """The widths of a segment as a function of the width that flows into it."""
    inference = Inference()
    inflow = inference.widths.variable(INFLOW, trunk.width(segment.start))
    dims = _at(trunk, segment.start, inflow)
    inference.dims[segment.start] = dims
    for node in segment.nodes:
        asked = trunk.asks(node, segment.start)
        if asked is not None:
            inference.dims[node] = inflow if asked == 1 else trunk.inference.dims[node]
    infer(trunk.trace, segment.nodes, inference, passed=passed)
    axes, dims = trunk.axes(segment.end), inference.dims[segment.end]
    if len(dims) == 1:  # a number for each image
        return inference, Width.of(1)
    out = dims[1 if axes is None else axes.channels]
    if not isinstance(out, Width):
        # behind an opaque operator, where a width is as large as the map is
        out = Width.of(trunk.width(segment.end))
    return inference, inference.widths.resolve(out)


def _at(trunk: Trunk, node: fx.Node, width: Width) -> Dims:
    """The dimensions of a map with another width."""
    dims, axes = trunk.inference.dims[node], trunk.axes(node) or STANDARD
    return tuple(width if i == axes.channels else dim for i, dim in enumerate(dims))


def pinned_inflow(trunk: Trunk, segment: Segment) -> int | None:
    """The width that must flow into a segment, where an opaque operator fixes it."""
    inference, _ = solve(trunk, segment)
    width = inference.widths.resolve(Width.variable(INFLOW))
    return None if width.terms else int(width.const)


def carries_width(trunk: Trunk, segment: Segment) -> bool:
    """Does a segment set its own output width, whatever flows in?"""
    _, out = solve(trunk, segment)
    return INFLOW not in out.variables
