"""Analyse: the regions of the trunk, and what each is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import fx

from td_transform.analyse.trunk import Trunk

RegionKind = Literal["conv", "depthwise", "block", "norm", "activation", "pool", "inert"]


def cut_points(trunk: Trunk) -> list[fx.Node]:
    """The trunk tensors that are maps with channels at axis 1."""
    return [node for node in trunk.tensors if trunk.stride(node) is not None]


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
    if len(learned) == 1 and _is_chain(trunk, nodes, start):
        return "depthwise" if trunk.is_depthwise(learned[0]) else "conv"
    if learned:
        return "block"
    before, after = trunk.stride(start), trunk.stride(end)
    if before is not None and after is not None and max(after) > max(before):
        return "pool"
    roles = {trunk.role(n) for n in nodes if n.op != "get_attr"}
    if "norm" in roles:
        return "norm"
    if "activation" in roles or (len(nodes) > 1 and "combine" in roles):
        return "activation"
    return "inert"


def _is_chain(trunk: Trunk, nodes: Iterable[fx.Node], start: fx.Node) -> bool:
    """Does every tensor here feed one other (parameters and sizes aside)?"""
    inside = [n for n in nodes if n.op != "get_attr" and trunk.role(n) != "index"]
    members = set(inside)
    return all(sum(s in members or s is start for s in n.all_input_nodes) == 1 for n in inside)
