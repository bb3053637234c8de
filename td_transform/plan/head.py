"""Plan: the head, from the last map to the logits."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from td_transform.analyse.infer import call_of
from td_transform.analyse.stages import Structure
from td_transform.analyse.trunk import Anatomy, Segment
from td_transform.operators import Spatial, TensorInfo
from td_transform.operators.rules import covers_map
from td_transform.plan.copies import Copy, SegmentPlanner
from td_transform.plan.values import NodePlan, SegmentPlan


def plan_head(
    structure: Structure, planner: SegmentPlanner, width: int
) -> tuple[SegmentPlan, tuple[str, ...]]:
    """The head on the last stage's width, and what to warn of.

    A pooling before the global pooling goes; a map that is flattened keeps the size that the head's
    own pooling gives it, or is pooled to the bottom-up map's size first.
    """
    anatomy = structure.anatomy
    start = structure.layout.head_start
    nodes = anatomy.between(start, anatomy.trunk[-1])
    stride = anatomy.stride(start) or (1, 1)
    segment = Segment("unit", start, nodes, stride, stride)  # type: ignore[arg-type]
    plan = planner.plan(Copy(segment, "head", width))
    warnings: list[str] = []
    planned = tuple(
        _head_node(anatomy, anatomy_node, node, warnings)
        for anatomy_node, node in zip(nodes, plan.nodes, strict=True)
    )
    return replace(plan, nodes=planned), tuple(warnings)


def _head_node(anatomy: Anatomy, node: fx.Node, plan: NodePlan, warnings: list[str]) -> NodePlan:
    if node.op == "get_attr" or anatomy.role(node) in ("collapse", "index"):
        return plan
    call = call_of(anatomy.trace, node, anatomy.region)
    if not call.tensors or not isinstance(anatomy.trace.values[call.input], TensorInfo):
        return plan
    if anatomy.stride(call.input) is None:
        return plan
    before: tuple[int, int] = call.shape()[-2:]  # type: ignore[assignment]
    if anatomy.role(node) == "pool":
        whole = covers_map(call.window(), call.shape())
        return (
            NodePlan(node.name, "adaptive", map_size=(1, 1))
            if whole
            else NodePlan(node.name, "drop")
        )
    if not any(isinstance(dim, Spatial) for dim in anatomy.region.dims[node]):
        warnings.append(
            f"{anatomy.trace.place(node)}: the head flattens a {before[0]}x{before[1]} map; the finer "
            f"top-down map is average-pooled to that size first, since fully connected layers on a "
            "fine map explode (paper, section 5); a global pooling in the model is the better head"
        )
        return replace(plan, action="adaptive-before", map_size=before)
    return plan
