"""Analyse: a block that takes the form of another, with its own layers where the two agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from torch import fx, nn

from td_transform.analyse.trunk import Segment, Trunk


def matched_modules(trunk: Trunk, own: Segment, form: Segment) -> dict[fx.Node, str] | None:
    """A block's own modules for the nodes of another block whose form it takes.

    Returns:
        Per module node of `form` the path of the own module in its place; None where the two
        differ by more than one contiguous stretch (a projection that one of them has).
    """
    left, right = _operations(trunk, own), _operations(trunk, form)
    found = []
    for kept_left, kept_right in _alignments(left, right):
        if [_key(trunk, n) for n in kept_left] == [_key(trunk, n) for n in kept_right]:
            pairs = list(zip(kept_left, kept_right, strict=True))
            found.append([(a, b) for a, b in pairs if a.op == "call_module"])
    if not found:
        return None
    # several stretches can fit (norms are alike); the names inside the blocks tell which is meant
    best = max(found, key=lambda pairs: sum(_common_tail(a, b) for a, b in pairs))
    return {theirs: str(ours.target) for ours, theirs in best}


def _alignments(
    left: list[fx.Node], right: list[fx.Node]
) -> Iterator[tuple[list[fx.Node], list[fx.Node]]]:
    """The longer of two lists without one contiguous stretch, at every place."""
    extra = len(right) - len(left)
    for start in range(min(len(left), len(right)) + 1):
        if extra < 0:
            yield [*left[:start], *left[start - extra :]], right
        else:
            yield left, [*right[:start], *right[start + extra :]]


def _common_tail(left: fx.Node, right: fx.Node) -> int:
    """How many names, from the last, two module paths share."""
    names = zip(str(left.target).split(".")[::-1], str(right.target).split(".")[::-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], names))


def _operations(trunk: Trunk, segment: Segment) -> list[fx.Node]:
    """What a segment does: an `nn.Identity` for a shortcut is nothing."""
    calls = [n for n in segment.nodes if n.op != "get_attr"]
    return [n for n in calls if not isinstance(trunk.trace.module(n), nn.Identity)]


def _key(trunk: Trunk, node: fx.Node) -> tuple[object, ...]:
    """What a node does, whatever its widths and strides."""
    module = trunk.trace.module(node)
    if module is None:
        return (node.op, node.target)
    if trunk.role(node) != "conv":
        return (type(module),)
    window = trunk.window(node)
    return (type(module), window.kernel, trunk.is_depthwise(node))
