"""Plan: the head, from the last map to the logits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from torch import fx

from td_transform.analyse import BottomUp, Segment, Trunk
from td_transform.operators import Spatial, TensorInfo
from td_transform.operators.rules import covers_map
from td_transform.plan.copies import CopySpec, SegmentPlanner
from td_transform.plan.parts import Drop, NodePlan, PoolTo, SegmentPlan


def plan_head(
    bottom_up: BottomUp, planner: SegmentPlanner, width: int
) -> tuple[SegmentPlan, tuple[str, ...]]:
    """The head on the last stage's width, and what to warn of.

    A pooling before the global pooling goes; a map that is flattened keeps the size that the head's
    own pooling gives it, or is pooled to the bottom-up map's size first.
    """
    trunk, start = bottom_up.trunk, bottom_up.layout.head_start
    nodes = trunk.between(start, trunk.tensors[-1])
    stride = trunk.stride(start) or (Fraction(1), Fraction(1))
    segment = Segment("unit", start, nodes, stride, stride)
    plan = planner.plan(CopySpec(segment, "", width, part="head"))
    warnings: list[str] = []
    planned = tuple(
        _head_node(trunk, source, node, warnings)
        for source, node in zip(nodes, plan.nodes, strict=True)
    )
    return replace(plan, nodes=planned), tuple(warnings)


def _head_node(trunk: Trunk, node: fx.Node, plan: NodePlan, warnings: list[str]) -> NodePlan:
    if node.op == "get_attr" or trunk.role(node) in ("collapse", "index"):
        return plan
    call = trunk.call(node)
    if not call.tensors or not isinstance(trunk.trace.values[call.input], TensorInfo):
        return plan
    if trunk.stride(call.input) is None:
        return plan
    before: tuple[int, int] = call.shape()[-2:]  # type: ignore[assignment]
    if trunk.role(node) == "pool":
        whole = covers_map(call.window(), call.shape())
        return NodePlan(node.name, PoolTo("instead", (1, 1)) if whole else Drop())
    if not any(isinstance(dim, Spatial) for dim in trunk.inference.dims[node]):
        warnings.append(
            f"{trunk.trace.place(node)}: the head flattens a {before[0]}x{before[1]} map; the finer "
            f"top-down map is average-pooled to that size first, since fully connected layers on a "
            "fine map explode (paper, section 5); a global pooling in the model is the better head"
        )
        return replace(plan, change=PoolTo("before", before))
    return plan
