"""Recompute: fine levels are run again in the backward pass, instead of keeping what they made.

A level is cut where only one map lives, so that the backward pass holds one piece at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import fx

from td_transform.emit.footprint import BATCH, Footprint
from td_transform.errors import TopDownError
from td_transform.plan import PlanCost, Recomputation

Piece = tuple[fx.Node, ...]

# pieces that a level is cut into at most: each costs a map that is kept
_PIECES = 8


@dataclass(frozen=True)
class Choice:
    """What is recomputed.

    Args:
        pieces: stretches of the graph, in order.
        summary: for the plan.
    """

    pieces: tuple[Piece, ...]
    summary: Recomputation


def choose(
    levels: Sequence[tuple[str, Sequence[fx.Node]]],
    found: Footprint,
    cost: PlanCost,
    budget: float,
) -> Choice:
    """As many of the finest levels as the budget asks for.

    Args:
        levels: path and nodes of each, from coarse to fine.
        found: what each node of the network saves.
        cost: of the network that keeps everything.
        budget: bytes an image, or up to 1 a share of what the network would keep.

    Raises:
        TopDownError: all levels together don't bring the network below the budget.
    """
    whole = cost.total.activation_bytes
    allowed = budget * whole if budget <= 1 else budget
    pieces: tuple[Piece, ...] = ()
    paths: list[str] = []
    kept = whole
    for path, nodes in reversed(levels):
        if kept <= allowed:
            break
        pieces = (*_cut(nodes, found), *pieces)
        paths.append(path)
        kept = _kept(found, pieces)
    if kept > allowed:
        raise TopDownError(
            "argument 'memory_budget'", seen=f"{allowed:,.0f} bytes an image",
            expected=f"at least {kept:,}, with every level recomputed",
            remedy=f"pass memory_budget={kept}, a coarser output_stride, or smaller images",
        )  # fmt: skip
    return Choice(pieces, Recomputation(tuple(paths), kept))


def _cut(nodes: Sequence[fx.Node], found: Footprint) -> tuple[Piece, ...]:
    """The pieces that need least: the maps between them, and the largest piece while it runs."""
    cuts = [_parted(nodes, found, count) for count in range(1, _PIECES + 1)]
    return min(cuts, key=lambda pieces: _needed(pieces, found))


def _needed(pieces: tuple[Piece, ...], found: Footprint) -> int:
    return sum(found.sizes[key] for key in _starts(pieces, found)) + max(
        _saves(p, found) for p in pieces
    )


def _saves(nodes: Iterable[fx.Node], found: Footprint) -> int:
    return sum(found.sizes[key] for key in {k for n in nodes for k in found.saved.get(n, ())})


def _parted(nodes: Sequence[fx.Node], found: Footprint, count: int) -> tuple[Piece, ...]:
    """Pieces of about equal size that end where one map lives."""
    share = _saves(nodes, found) / count
    pieces: list[Piece] = []
    piece: list[fx.Node] = []
    live: set[fx.Node] = set()
    remaining = {node: set(node.users) for node in nodes}
    for node in nodes:
        piece.append(node)
        for given in node.all_input_nodes:
            if given in remaining:
                remaining[given].discard(node)
                if not remaining[given]:
                    live.discard(given)
        if remaining[node]:
            live.add(node)
        if live == {node} and _saves(piece, found) >= share:
            pieces.append(tuple(piece))
            piece = []
    if piece:
        pieces.append(tuple(piece))
    return tuple(pieces)


def _kept(found: Footprint, pieces: Sequence[Piece]) -> int:
    """Bytes an image: what other nodes save, and what the pieces start from."""
    within = {node for piece in pieces for node in piece}
    outside = (keys for node, keys in found.saved.items() if node not in within)
    saved = {key for keys in outside for key in keys}
    return sum(found.sizes[key] for key in saved | _starts(pieces, found) - found.own) // BATCH


def _starts(pieces: Sequence[Piece], found: Footprint) -> set[int]:
    """The maps that the pieces start from."""
    return {found.made[n] for piece in pieces for n in inputs(piece) if n in found.made}


def inputs(piece: Sequence[fx.Node]) -> list[fx.Node]:
    """The nodes before a piece that it reads."""
    within = set(piece)
    read = (given for node in piece for given in node.all_input_nodes if given not in within)
    return list(dict.fromkeys(read))
