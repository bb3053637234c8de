"""Analyse: the regions of the trunk grouped into units, blocks and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import fx

from td_transform.analyse.refusals import uncuttable
from td_transform.analyse.regions import Region
from td_transform.analyse.trunk import Kind, Segment, Trunk
from td_transform.operators.rules import covers_map


def _segment(trunk: Trunk, kind: Kind, parts: Sequence[Region]) -> Segment:
    nodes = tuple(n for part in parts for n in part.nodes)
    start_stride, end_stride = trunk.stride(parts[0].start), trunk.stride(nodes[-1])
    if start_stride is None or end_stride is None:
        raise uncuttable(trunk, parts[0].start, nodes)
    return Segment(kind, parts[0].start, nodes, start_stride, end_stride)


def group_regions(trunk: Trunk, pieces: Sequence[Region], pre_activation: bool) -> list[Segment]:
    """Convolutions with the norms and activations that belong to them, blocks and poolings.

    Args:
        trunk: the trunk.
        pieces: its regions from the first learned layer to the head.
        pre_activation: do the network's blocks begin with a norm?
    """
    groups: list[list[Region]] = []
    pending: list[Region] = []
    for i, region in enumerate(pieces):
        if region.kind in ("conv", "depthwise", "block"):
            groups.append([*pending, region])
            pending = []
        elif region.kind == "pool":
            if groups:
                groups[-1].extend(pending)
            groups.append([region])
            pending = []
        elif any(trunk.adds_tokens(n) for n in region.nodes):
            pending.append(region)  # class tokens belong to the block that reads them
        elif region.kind == "norm":
            behind_conv = bool(groups) and _lacks_norm(groups[-1]) and not pending
            if behind_conv and not (pre_activation and _leads_into_block(pieces[i:])):
                groups[-1].append(region)
            else:
                pending.append(region)
        elif pending or not groups or _adds_parameters(trunk, region, groups[-1]):
            pending.append(region)
        else:
            groups[-1].append(region)
    if groups:
        groups[-1].extend(pending)
    return [_segment(trunk, _kind(group), group) for group in groups]


def _adds_parameters(trunk: Trunk, region: Region, group: Sequence[Region]) -> bool:
    """Are parameters (positions) added behind a pooling, which goes while they are to stay?"""
    return _kind(group) == "pool" and any(trunk.constants.get(n, False) for n in region.nodes)


def _kind(group: Sequence[Region]) -> Kind:
    kinds = [t.kind for t in group]
    if "block" in kinds:
        return "block"
    if "pool" in kinds:
        return "pool"
    return "depthwise" if "depthwise" in kinds else "unit"


def _lacks_norm(group: Sequence[Region]) -> bool:
    """Is it a convolution, perhaps with an activation, whose norm may follow?"""
    kinds = [t.kind for t in group]
    first = next((i for i, kind in enumerate(kinds) if kind in ("conv", "depthwise")), len(kinds))
    return first < len(kinds) and {*kinds[first + 1 :]} <= {"activation", "inert"}


def _leads_into_block(pieces: Sequence[Region]) -> bool:
    follower = next((t for t in pieces if t.kind not in ("norm", "activation", "inert")), None)
    return follower is not None and follower.kind == "block"


def is_pointwise_unit(trunk: Trunk, segment: Segment) -> bool:
    """A unit whose convolution is 1x1 at stride 1."""
    is_plain = segment.kind == "unit" and not segment.crosses
    return is_plain and set(entry_kernel(trunk, segment)) == {1}


def entry_conv(trunk: Trunk, segment: Segment) -> fx.Node | None:
    """The first learned convolution of a segment."""
    return next((n for n in segment.nodes if trunk.slides(n) and trunk.is_learned(n)), None)


def entry_kernel(trunk: Trunk, segment: Segment) -> tuple[int, ...]:
    """The kernel of a segment's first convolution."""
    node = entry_conv(trunk, segment)
    return (1,) * trunk.count if node is None else trunk.window(node).kernel


def covers(trunk: Trunk, node: fx.Node) -> bool:
    """Is it a convolution whose kernel is the whole map?"""
    if not trunk.slides(node):
        return False
    call = trunk.call(node)
    return prod(call.shape()[2:]) > 1 and covers_map(call.window(), call.shape())


def beside_pooling(trunk: Trunk, pool: Segment) -> Segment | None:
    """What stands beside a pooling and keeps the map's shape (dropout)."""
    kept: list[fx.Node] = []
    for node in pool.nodes:
        if trunk.keeps_shape(node) and (not kept or trunk.call(node).input is kept[-1]):
            kept.append(node)
    stride = pool.stride_out
    return Segment("unit", trunk.call(kept[0]).input, tuple(kept), stride, stride) if kept else None


def behind_unit(trunk: Trunk, segment: Segment) -> Segment | None:
    """What a unit has behind its convolution, its norm layer and its activation (dropout, a gate)."""
    wanted = {"conv", "norm", "activation"}
    last, place = None, 0
    for i, node in enumerate(segment.nodes):
        role = "conv" if node is entry_conv(trunk, segment) else trunk.role(node)
        if role in wanted and node in trunk.tensors and trunk.axes(node) is not None:
            wanted.remove(role)
            last, place = node, i
    nodes = segment.nodes[place + 1 :]
    if last is None or not nodes:
        return None
    stride = segment.stride_out
    return Segment("unit", last, nodes, stride, stride)
