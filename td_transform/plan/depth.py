"""Plan: a stage with as many blocks as another has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, groupby, islice

from td_transform.analyse import Segment, Stage, Trunk, operations, scope

# what one block became: a transformer's has a segment for its attention and one for its MLP
Block = tuple[Segment, ...]


def at_depth_of(trunk: Trunk, stage: Stage, other: Stage) -> Stage:
    """A stage whose blocks are repeated, or left out, until it is as deep as another.

    Its entry stays. Left out is the last of what it has most of, so that a stage of convolutions
    with one attention at its end keeps that.
    """
    blocks = _blocks(trunk, stage)
    more = _depth(_blocks(trunk, other)) - _depth(blocks)
    repeated = [block for block in blocks if _repeats(trunk, block)]
    if more > 0 and repeated:
        place = blocks.index(repeated[-1]) + 1
        blocks[place:place] = islice(cycle(repeated), more)
    for _ in range(-more):
        _leave_out(trunk, blocks, stage.entry)
    return replace(stage, rest=tuple(s for block in blocks for s in block)[1:])


def _leave_out(trunk: Trunk, blocks: list[Block], entry: Segment) -> None:
    """Take the last of the most common blocks away."""
    kinds = [_kind(trunk, block) for block in blocks]
    counts = Counter(kinds)
    places = [i for i, block in enumerate(blocks) if entry not in block and _repeats(trunk, block)]
    if places:
        del blocks[max(places, key=lambda i: (counts[kinds[i]], i))]


def _blocks(trunk: Trunk, stage: Stage) -> list[Block]:
    """The segments of a stage, those together that one of its modules holds."""
    paths = [[path for path, _ in scope(trunk, segment)] for segment in stage.segments]
    around = set.intersection(*map(set, paths))
    owners = [
        next((p for p in inside if p not in around), str(i)) for i, inside in enumerate(paths)
    ]
    owned = zip(owners, stage.segments, strict=True)
    return [tuple(s for _, s in group) for _, group in groupby(owned, key=lambda pair: pair[0])]


def _depth(blocks: Sequence[Block]) -> int:
    return sum(any(segment.kind == "block" for segment in block) for block in blocks)


def _repeats(trunk: Trunk, block: Block) -> bool:
    """Can it follow itself?"""
    keeps_width = trunk.width(block[0].start) == trunk.width(block[-1].end)
    return keeps_width and _depth([block]) > 0 and not any(segment.crosses for segment in block)


def _kind(trunk: Trunk, block: Block) -> tuple[object, ...]:
    """What it does, whatever its widths."""
    return tuple(operations(trunk, segment) for segment in block)
