"""Plan: the form of a transition block for a block that had no transition of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from td_transform.infer import call_of
from td_transform.trunk import Anatomy, Segment


def matched_modules(
    anatomy: Anatomy, own: Segment, sibling: Segment
) -> dict[fx.Node, str] | None:
    """The block's own modules for the nodes of a sibling that has a projection besides.

    Returns:
        Per module node of the sibling the path of the own module in its place; None where the two
        differ by more than one contiguous stretch (the projection).
    """
    left, right = _operations(own), _operations(sibling)
    keys = [_key(anatomy, n) for n in left]
    extra = len(right) - len(left)
    if extra < 0:
        return None
    for start in range(len(left) + 1):
        kept = [*right[:start], *right[start + extra :]]
        if [_key(anatomy, n) for n in kept] == keys:
            return {
                sibling_node: str(own_node.target)
                for own_node, sibling_node in zip(left, kept, strict=True)
                if own_node.op == "call_module"
            }
    return None


def same_form(anatomy: Anatomy, left: Sequence[fx.Node], right: Sequence[fx.Node]) -> bool:
    """Do two blocks do the same operations in the same order?"""
    return [_key(anatomy, n) for n in left] == [_key(anatomy, n) for n in right]


def _operations(segment: Segment) -> list[fx.Node]:
    return [n for n in segment.nodes if n.op != "get_attr"]


def _key(anatomy: Anatomy, node: fx.Node) -> tuple[object, ...]:
    """What a node does, whatever its widths and strides."""
    module = anatomy.trace.module(node)
    if module is None:
        return (node.op, node.target)
    if anatomy.role(node) != "conv":
        return (type(module),)
    window = call_of(anatomy.trace, node, anatomy.region).window()
    return (type(module), window.kernel, anatomy.is_depthwise(node))
