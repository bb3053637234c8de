"""Analyse: the widths of a segment, given what flows into it."""

from __future__ import annotations

from torch import fx

from td_transform.analyse.infer import infer
from td_transform.analyse.trunk import Segment, Trunk
from td_transform.operators import Inference, Spatial
from td_transform.operators.widths import INFLOW, Width


def solve(
    trunk: Trunk, segment: Segment, *, passed: frozenset[fx.Node] = frozenset()
) -> tuple[Inference, Width]:
    """The widths of a segment as a function of the width that flows into it."""
    inference = Inference()
    dims = (
        Width.of(2),
        inference.widths.variable(INFLOW, trunk.width(segment.start)),
        Spatial(0, segment.stride_in[0]),
        Spatial(1, segment.stride_in[1]),
    )
    inference.dims[segment.start] = dims
    inside = {segment.start, *segment.nodes}
    for node in segment.nodes:
        for earlier in node.all_input_nodes:
            if earlier not in inside:
                inference.dims[earlier] = dims
    infer(trunk.trace, segment.nodes, inference, passed=passed)
    return inference, inference.widths.resolve(inference.dims[segment.end][1])


def pinned_inflow(trunk: Trunk, segment: Segment) -> int | None:
    """The width that must flow into a segment, where an opaque operator fixes it."""
    inference, _ = solve(trunk, segment)
    width = inference.widths.resolve(Width.variable(INFLOW))
    return None if width.terms else int(width.const)


def carries_width(trunk: Trunk, segment: Segment) -> bool:
    """Does a segment set its own output width, whatever flows in?"""
    _, out = solve(trunk, segment)
    return INFLOW not in out.variables
