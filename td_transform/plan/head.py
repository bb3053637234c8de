"""Plan: the head, from the last map to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from operator import getitem
from typing import Any

from torch import fx

from td_transform.analyse import BottomUp, Segment, Trunk, covers
from td_transform.layers.dimensions import DIMENSIONS, by
from td_transform.operators import Spatial, TensorInfo
from td_transform.operators.dimensions import FLAT
from td_transform.operators.rules import covers_map
from td_transform.plan.copies import CopySpec, SegmentPlanner
from td_transform.plan.parts import Drop, Keep, NodePlan, PoolTo, SegmentPlan, SizePreserving

_EXPLODES = (
    "fully connected layers on a fine map explode (paper, section 5); a global pooling in the model is "
    "the better head"
)
_SO_MANY = "such a head is made for so many positions"


def head_segment(bottom_up: BottomUp) -> Segment:
    """The bottom-up head, from the last map on."""
    trunk, start = bottom_up.trunk, bottom_up.layout.head_start
    stride = trunk.stride(start) or (Fraction(1),) * trunk.count
    return Segment("unit", start, trunk.between(start, trunk.tensors[-1]), stride, stride)


def plan_head(
    bottom_up: BottomUp, planner: SegmentPlanner, width: int
) -> tuple[SegmentPlan, tuple[str, ...]]:
    """The head on the last stage's width, and what to warn of.

    A pooling before the global pooling goes; a map that is flattened keeps the size that the head's
    own pooling gives it, or is pooled to the bottom-up map's size first, and one of which a single axis
    goes is pooled so along that.
    """
    trunk, segment = bottom_up.trunk, head_segment(bottom_up)
    start, nodes = segment.start, segment.nodes
    plan = planner.plan(CopySpec(segment, "", width, part="head"))
    warnings: list[str] = []
    planned = _planned(trunk, nodes, plan.nodes, warnings)
    size = trunk.map_size(start)
    lost = {axis for node in nodes for axis in _axes_taken_away(trunk, node)}
    if any(_takes_positions_apart(trunk, node) for node in nodes):
        planned = _pooled_first(trunk, segment, plan.nodes, size)
        warnings = [_pooled(trunk, start, size, "works on the positions of")]
    elif lost:
        kept = tuple(side if axis in lost else None for axis, side in enumerate(size))
        planned = _pooled_first(trunk, segment, plan.nodes, kept)
        along = " and the ".join(DIMENSIONS[trunk.count].names[axis] for axis in sorted(lost))
        what = f"squeezes the {along} axis, or lays it with the channels, of"
        warnings = [_pooled(trunk, start, size, what, _SO_MANY, " along it")]
    if not bottom_up.layout.classifies:
        warnings.append(_features(trunk, start, width))
    return replace(plan, nodes=_asking_pooled(nodes, planned)), tuple(warnings)


def _pooled_first(
    trunk: Trunk, segment: Segment, plans: Sequence[NodePlan], size: tuple[int | None, ...]
) -> tuple[NodePlan, ...]:
    """Everything as it was, on a map of that size."""
    return tuple(
        replace(node, change=PoolTo("before", size))
        if source.all_input_nodes[:1] == [segment.start] and trunk.role(source) != "index"
        else _as_it_was(node)
        for source, node in zip(segment.nodes, plans, strict=True)
    )


def _axes_taken_away(trunk: Trunk, node: fx.Node) -> set[int]:
    """The axes of a map that are squeezed, or laid in one with the channels, where others stay.

    What picks a position of many does so on a finer map as well.
    """
    if node.op == "get_attr" or trunk.role(node) not in ("inert", "combine"):
        return set()
    call = trunk.call(node)
    if not call.tensors or not isinstance(trunk.trace.values[node], TensorInfo):
        return set()
    before, after = (_axes(trunk.inference.dims[n]) for n in (call.tensors[0], node))
    if not after or FLAT in after or FLAT in before:
        return set()
    picks, shape = node.target is getitem, call.shape(call.tensors[0])
    return {a for a, place in before.items() if a not in after and (not picks or shape[place] == 1)}


def _axes(dims: Any) -> dict[int, int]:
    """Where each axis of a map stands."""
    found = enumerate(dims) if isinstance(dims, tuple) else ()
    return {dim.axis: place for place, dim in found if isinstance(dim, Spatial)}


def _planned(
    trunk: Trunk, nodes: Sequence[fx.Node], plans: Sequence[NodePlan], warnings: list[str]
) -> tuple[NodePlan, ...]:
    """What becomes of each node; behind a convolution over the whole map everything is as it was."""
    found: list[NodePlan] = []
    pooled = False
    for source, plan in zip(nodes, plans, strict=True):
        found.append(_as_it_was(plan) if pooled else _head_node(trunk, source, plan, warnings))
        pooled = pooled or (source in trunk.tensors and covers(trunk, source))
    return tuple(found)


def _as_it_was(node: NodePlan) -> NodePlan:
    """On a map of its own size a window may end at the border."""
    return replace(node, change=Keep()) if isinstance(node.change, SizePreserving) else node


def _asking_pooled(
    nodes: tuple[fx.Node, ...], planned: tuple[NodePlan, ...]
) -> tuple[NodePlan, ...]:
    """What asks for the size of a map that is pooled first asks the pooled one."""
    pooled = {
        source.all_input_nodes[0]: node.change
        for source, node in zip(nodes, planned, strict=True)
        if isinstance(node.change, PoolTo) and node.change.where == "before"
    }
    return tuple(
        replace(node, change=pooled[source.all_input_nodes[0]])
        if source.target == "size" and source.all_input_nodes[0] in pooled
        else node
        for source, node in zip(nodes, planned, strict=True)
    )


def _features(trunk: Trunk, start: fx.Node, width: int) -> str:
    return (
        f"{trunk.trace.place(start)}: no learned layer follows the last map, whose "
        f"{trunk.width(start)} channels are the bottom-up model's output; the top-down network "
        f"returns the {width} of its own last map"
    )


def _takes_positions_apart(trunk: Trunk, node: fx.Node) -> bool:
    """Does it read a map as a sequence (attention pooling) and return something else, or put a class
    token there?

    Several tensors are then as long as the map has positions, so that the map itself is pooled.
    """
    if node.op == "get_attr" or trunk.role(node) in ("collapse", "index", "pool"):
        return False
    if trunk.call(node).tensors and _picks_tokens(trunk, node):
        return False
    if trunk.adds_tokens(node):
        return True
    dims = trunk.inference.dims
    read = [
        t for t in trunk.call(node).tensors if _is_spatial(dims[t]) and not _is_standard(trunk, t)
    ]
    return bool(read) and not _is_spatial(dims[node])


def _picks_tokens(trunk: Trunk, node: fx.Node) -> bool:
    """Does it take class tokens, which stand ahead of the positions, and none of those?"""
    axes = trunk.axes(trunk.call(node).input)
    return node.target is getitem and axes is not None and axes.ahead > 0


def _is_standard(trunk: Trunk, node: fx.Node) -> bool:
    axes = trunk.axes(node)
    return axes is not None and axes.is_standard


def _is_spatial(dims: Any) -> bool:
    """Is it a map, or are there maps among its parts (of a split)?"""
    return isinstance(dims, tuple) and any(
        isinstance(dim, Spatial) or _is_spatial(dim) for dim in dims
    )


def _pooled(
    trunk: Trunk,
    node: fx.Node,
    size: tuple[int, ...],
    what: str,
    why: str = _EXPLODES,
    along: str = "",
) -> str:
    return (
        f"{trunk.trace.place(node)}: the head {what} a {by(size)} map; the finer "
        f"top-down map is average-pooled to that size{along} first, since {why}"
    )


def _head_node(trunk: Trunk, node: fx.Node, plan: NodePlan, warnings: list[str]) -> NodePlan:
    if node.op == "get_attr" or trunk.role(node) in ("collapse", "index"):
        return plan
    call = trunk.call(node)
    read = next(iter(call.tensors), None)
    if read is None or trunk.stride(read) is None:
        return plan
    before = trunk.map_size(read)
    if trunk.role(node) == "pool":
        whole = covers_map(call.window(), call.shape())
        return NodePlan(node.name, PoolTo("instead", (1,) * trunk.count) if whole else Drop())
    if not _is_spatial(trunk.inference.dims[node]) and not _picks_tokens(trunk, node):
        warnings.append(_pooled(trunk, node, before, "flattens"))
        return replace(plan, change=PoolTo("before", before))
    if covers(trunk, node):
        warnings.append(_pooled(trunk, node, before, "has a kernel as large as"))
        return replace(plan, change=PoolTo("before", before))
    if _lays_out_by_numbers(trunk, node, read):
        warnings.append(_pooled(trunk, node, before, "lays out", "its code holds these numbers"))
        return replace(plan, change=PoolTo("before", before))
    return plan


def _lays_out_by_numbers(trunk: Trunk, node: fx.Node, read: fx.Node) -> bool:
    """Does it make a map of a row of positions whose sizes stand in the code?"""
    before, after = trunk.axes(read), trunk.axes(node)
    if before is None or after is None or not before.flattened or after.flattened:
        return False
    sizes = trunk.call(node).option("shape", 1) if len(node.args) == 2 else node.args[1:]
    if not isinstance(sizes, (tuple, list)) or len(sizes) != len(trunk.trace.values[node].shape):
        return False
    return all(type(size) is int and size > 0 for size in (sizes[p] for p in after.positions))
