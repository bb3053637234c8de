"""Analyse: the regions of the trunk, and what each is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import fx

from td_transform.analyse.trunk import Trunk, is_coarser
from td_transform.errors import StructureError

RegionKind = Literal["conv", "depthwise", "block", "norm", "activation", "pool", "inert"]


def cut_points(trunk: Trunk) -> list[fx.Node]:
    """The trunk tensors that are maps.

    Those that are laid out otherwise than (N, C, H, W) count where the network has learned layers
    between them; a norm between two permutes is no place to cut. Nor is a map whose batch is another
    (images in the channels, for convolutions with kernels of their own).
    """
    values = trunk.trace.values
    batch = values[trunk.tensors[0]].shape[0]
    maps = [n for n in trunk.tensors if trunk.axes(n) is not None and values[n].shape[0] == batch]
    kept: list[fx.Node] = []
    run: list[fx.Node] = []
    for node in [*_self_contained(trunk, maps), None]:
        if node is not None and not trunk.axes(node).is_standard:  # type: ignore[union-attr]
            run.append(node)
            continue
        ends = [kept[-1], *run, *([node] if node is not None else [])] if kept else []
        learned = sum(
            any(trunk.is_learned(n) for n in trunk.between(start, end))
            for start, end in pairwise(ends)
        )
        if run and learned >= (1 if node is None else 2):
            kept.extend(run)
        run = []
        if node is not None:
            kept.append(node)
    return kept


def _self_contained(trunk: Trunk, maps: Sequence[fx.Node]) -> list[fx.Node]:
    """Those behind which no size of an earlier map is needed that they haven't got themselves."""
    kept: list[fx.Node] = []
    for node in maps:
        while len(kept) > 1 and not _leads_to(trunk, kept[-1], node):
            kept.pop()
        kept.append(node)
    return kept


def _leads_to(trunk: Trunk, start: fx.Node, end: fx.Node) -> bool:
    try:
        trunk.between(start, end)
    except StructureError:
        return False
    return True


@dataclass(frozen=True)
class Region:
    """What lies between two neighbouring tensors of the trunk.

    Args:
        kind: a single convolution, a block that branches, or what has no learned layer.
        nodes: all its nodes, in graph order.
        start: the tensor that flows in.
    """

    kind: RegionKind
    nodes: tuple[fx.Node, ...]
    start: fx.Node


def regions(trunk: Trunk, points: Sequence[fx.Node]) -> list[Region]:
    """The regions between neighbouring cut points, each with its kind."""
    result = []
    for start, end in pairwise(points):
        nodes = trunk.between(start, end)
        result.append(Region(_region_kind(trunk, nodes, start, end), nodes, start))
    return result


def _region_kind(
    trunk: Trunk, nodes: Sequence[fx.Node], start: fx.Node, end: fx.Node
) -> RegionKind:
    learned = [n for n in nodes if trunk.is_learned(n)]
    single = len(learned) == 1 and not trunk.is_opaque(learned[0])
    if single and _is_chain(trunk, nodes, start):
        return "depthwise" if trunk.is_depthwise(learned[0]) else "conv"
    if learned:
        return "block"
    before, after = trunk.stride(start), trunk.stride(end)
    if before is not None and after is not None and is_coarser(after, before):
        return "pool"
    roles = {"opaque" if trunk.is_opaque(n) else trunk.role(n) for n in nodes if n.op != "get_attr"}
    if "norm" in roles:
        return "norm"
    is_combined = len(nodes) > 1 or trunk.width(start) != trunk.width(end)
    if roles & {"activation", "opaque"} or ("combine" in roles and is_combined):
        return "activation"
    return "inert"


def _is_chain(trunk: Trunk, nodes: Iterable[fx.Node], start: fx.Node) -> bool:
    """Does every tensor here feed one other (parameters and sizes aside)?"""
    inside = [n for n in nodes if n not in trunk.constants and trunk.role(n) != "index"]
    members = set(inside)
    return all(sum(s in members or s is start for s in n.all_input_nodes) == 1 for n in inside)
