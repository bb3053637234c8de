"""Analyse: the stem, which is never copied and so may be anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

from td_transform.analyse.blocks import block_class
from td_transform.analyse.trunk import Segment, Trunk


def split_stem(
    trunk: Trunk, segments: Sequence[Segment]
) -> tuple[Segment | None, Sequence[Segment]]:
    """In a network of blocks, what stands before the first of them; its poolings go with it.

    Units that are stages in their own right, with several at more than one resolution, are no stem.
    """
    first = next((i for i, s in enumerate(segments) if _is_body(trunk, segments, i)), 0)
    leading = [s for s in segments[:first] if s.kind != "pool"]
    if not leading or _are_stages(leading):
        return None, segments
    last = segments.index(leading[-1]) + 1
    stem = reduce(lambda left, right: left.joined(right, left.kind), segments[:last])
    return stem, segments[first:]


def _is_body(trunk: Trunk, segments: Sequence[Segment], index: int) -> bool:
    """Is it a block of the stages? One whose class never returns, ahead of others, is not."""
    if segments[index].kind != "block":
        return False
    later = [s for s in segments[index + 1 :] if s.kind == "block"]
    own = block_class(trunk, segments[index])
    known = {block_class(trunk, s) for s in later}
    # without classes to go by (a flat forward) a block is a block
    return own is None or None in known or own in known or not later


def _are_stages(leading: Sequence[Segment]) -> bool:
    units = Counter(max(s.stride_out) for s in leading)
    return sum(count > 1 for count in units.values()) > 1
