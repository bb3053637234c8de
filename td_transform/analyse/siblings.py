"""Analyse: a block that takes the form of another, with its own layers where the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product, takewhile

from torch import fx, nn

from td_transform.analyse.trunk import Segment, Trunk


def matched_modules(trunk: Trunk, own: Segment, form: Segment) -> dict[fx.Node, str] | None:
    """A block's own modules for the nodes of another block whose form it takes.

    Returns:
        Per module node of `form` the path of the own module in its place, but for pooling that
        lowers the resolution; None where neither block does all that the other does, in order (one
        may have a projection or a pooling more), or one does more than twice as much: then they are
        no siblings.
    """
    left, right = _operations(trunk, own), _operations(trunk, form)
    if max(len(left), len(right)) > 2 * min(len(left), len(right)):
        return None
    if len(left) < len(right):
        pairs = _embedded(trunk, left, right)
    else:
        pairs = [(ours, theirs) for theirs, ours in _embedded(trunk, right, left)]
    if not pairs:
        return None
    return {
        theirs: str(ours.target)
        for ours, theirs in pairs
        if ours.op == "call_module" and not _lowers_resolution(trunk, ours)
    }


def _lowers_resolution(trunk: Trunk, node: fx.Node) -> bool:
    """Does what learns nothing lower the resolution, so that a block at rest has no use for it?"""
    if trunk.role(node) == "conv":
        return False
    return trunk.stride(node) != trunk.stride(trunk.call(node).input)


def _embedded(
    trunk: Trunk, shorter: Sequence[fx.Node], longer: Sequence[fx.Node]
) -> list[tuple[fx.Node, fx.Node]]:
    """All of one list found in another, in order; empty where it isn't there.

    Several places can fit (norms are alike): the names inside the blocks tell which is meant.
    """
    keys = [_key(trunk, node) for node in shorter], [_key(trunk, node) for node in longer]
    # the most names that agree when shorter[i:] is found in longer[j:]
    agreeing = [[-math.inf] * (len(longer) + 1) for _ in shorter] + [[0.0] * (len(longer) + 1)]
    for i, j in product(reversed(range(len(shorter))), reversed(range(len(longer)))):
        taken = -math.inf
        if keys[0][i] == keys[1][j]:
            taken = agreeing[i + 1][j + 1] + _common_tail(shorter[i], longer[j])
        agreeing[i][j] = max(taken, agreeing[i][j + 1])
    if agreeing[0][0] == -math.inf:
        return []
    pairs, i = [], 0
    for j, node in enumerate(longer):
        if i < len(shorter) and agreeing[i][j] > agreeing[i][j + 1]:
            pairs.append((shorter[i], node))
            i += 1
    return pairs


def operations(trunk: Trunk, segment: Segment) -> tuple[object, ...]:
    """What a segment does, in order, whatever its widths and strides."""
    return tuple(_key(trunk, node) for node in _operations(trunk, segment))


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
