"""Plan: a block that takes the form of another, with its own layers where the two agree."""

from __future__ import annotations

from torch import fx

from td_transform.infer import call_of
from td_transform.trunk import Anatomy, Segment


def matched_modules(anatomy: Anatomy, own: Segment, form: Segment) -> dict[fx.Node, str] | None:
    """A block's own modules for the nodes of another block whose form it takes.

    Returns:
        Per module node of `form` the path of the own module in its place; None where the two
        differ by more than one contiguous stretch (a projection that one of them has).
    """
    left, right = _operations(own), _operations(form)
    extra = abs(len(right) - len(left))
    for start in range(min(len(left), len(right)) + 1):
        kept_left, kept_right = left, right
        if len(left) > len(right):
            kept_left = [*left[:start], *left[start + extra :]]
        else:
            kept_right = [*right[:start], *right[start + extra :]]
        if [_key(anatomy, n) for n in kept_left] == [_key(anatomy, n) for n in kept_right]:
            return {
                theirs: str(ours.target)
                for ours, theirs in zip(kept_left, kept_right, strict=True)
                if ours.op == "call_module"
            }
    return None


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
