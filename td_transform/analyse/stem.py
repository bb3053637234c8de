"""Analyse: the stem, which is never copied and so may be anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

from td_transform.analyse.blocks import block_class, is_unit_in_branches, scope
from td_transform.analyse.trunk import Segment, Trunk


def split_stem(
    trunk: Trunk, segments: Sequence[Segment]
) -> tuple[Segment | None, Sequence[Segment]]:
    """In a network of blocks, what stands before those of the stages; its poolings go with it.

    What has stages in its own right, several units or blocks at a resolution, is no stem.
    """
    for first in (
        _first_of_container(trunk, segments),
        _first_of_stages(trunk, segments),
        next((i for i, s in enumerate(segments) if s.kind == "block"), None),
        1 if _is_alone(trunk, segments) else None,
    ):
        leading = [s for s in segments[:first] if s.kind != "pool"] if first else []
        resolutions = {s.stride_out for s in segments[first:]}
        if not leading or len(resolutions) < 2 or _are_stages(trunk, leading, segments[first:]):
            continue
        return joined_stem(segments[:first]), segments[first:]
    return None, segments


def joined_stem(segments: Sequence[Segment]) -> Segment | None:
    """What stands before the stages, in one; its last poolings aren't copied, as no stem is."""
    last = max((i for i, s in enumerate(segments) if s.kind != "pool"), default=-1)
    leading = segments[: last + 1]
    return reduce(lambda a, b: a.joined(b, a.kind), leading) if leading else None


def _first_of_container(trunk: Trunk, segments: Sequence[Segment]) -> int | None:
    """The first segment inside the module that holds the stages, where the stem is outside of it.

    Of modules side by side that each lower the resolution none holds the stages: they are these.
    """
    paths = [_owners([path for path, _ in scope(trunk, s)]) for s in segments]
    starts: dict[str, list[int]] = {}
    for i, inside in enumerate(paths):
        for path in inside:
            starts.setdefault(path, []).append(i)
    holding = {
        path: members
        for path, members in starts.items()
        if members[0] > 0 and len({segments[i].stride_out for i in members}) > 1
    }
    longest = max(holding, key=lambda path: len(holding[path]), default="")
    beside = [path for path in holding if path.rpartition(".")[0] == longest.rpartition(".")[0]]
    return holding[longest][0] if len(beside) == 1 else None


def _is_alone(trunk: Trunk, segments: Sequence[Segment]) -> bool:
    """Is the first a unit in branches, the only one at its resolution, where others have several?"""
    counts = Counter(s.stride_out for s in segments if s.kind != "pool")
    is_only = counts[segments[0].stride_out] == 1 < max(counts.values(), default=0)
    return is_only and is_unit_in_branches(trunk, segments[0])


def _owners(paths: Sequence[str]) -> set[str]:
    """Some modules, and those that hold them (a list of stages is never called)."""
    parts = [path.split(".") for path in paths]
    return {".".join(names[:i]) for names in parts for i in range(1, len(names) + 1)}


def _first_of_stages(trunk: Trunk, segments: Sequence[Segment]) -> int:
    return next((i for i, s in enumerate(segments) if _is_body(trunk, segments, i)), 0)


def _is_body(trunk: Trunk, segments: Sequence[Segment], index: int) -> bool:
    """Is it a block of the stages? One whose class never returns, ahead of others, is not, nor is a
    depthwise unit alone."""
    if segments[index].kind != "block":
        return False
    later = [s for s in segments[index + 1 :] if s.kind == "block"]
    if later and _is_depthwise_alone(trunk, segments[index]):
        return False
    own = block_class(trunk, segments[index])
    known = {block_class(trunk, s) for s in later}
    # without classes to go by (a flat forward) a block is a block
    return own is None or None in known or own in known or not later


def _is_depthwise_alone(trunk: Trunk, segment: Segment) -> bool:
    """Is it a depthwise convolution that lowers no resolution, and is added to nothing (as positions
    are that a convolution encodes)?"""
    calls = [n for n in segment.nodes if n.op.startswith("call")]
    learned = [n for n in calls if trunk.is_learned(n)]
    alone = len(learned) == 1 and trunk.is_depthwise(learned[0]) and not segment.crosses
    return alone and not any(trunk.call(n).adds for n in calls)


def _are_stages(trunk: Trunk, leading: Sequence[Segment], later: Sequence[Segment]) -> bool:
    """What has several units at more than one resolution, or several of the stages' own blocks at one, or
    one that stands in a list with blocks of the stages.

    What lies in a module of its own is a stem, however large, unless it is units alone.
    """
    apart = {path for path, _ in scope(trunk, later[0])}
    own = [{path for path, _ in scope(trunk, s)} - apart for s in leading]
    if all(s.kind == "unit" for s in leading) or not set.intersection(*own):
        steps = Counter(s.stride_out for s in leading)
        if sum(count > 1 for count in steps.values()) > 1:
            return True
    returning = {block_class(trunk, s) for s in later if s.kind == "block"}
    blocks = [
        s
        for s in leading
        if s.kind == "block"
        and block_class(trunk, s) in returning
        and not _is_depthwise_alone(trunk, s)
    ]
    at = Counter(s.stride_out for s in blocks if not s.crosses)
    if any(count > 1 for count in at.values()):
        return True
    lists = {path for s in later if s.kind == "block" for path in _lists(trunk, s, returning)}
    return any(path in lists for s in blocks for path in _lists(trunk, s, returning))


def _lists(trunk: Trunk, segment: Segment, classes: set[type | None]) -> set[str]:
    """What holds the blocks that a segment lies in."""
    held = [path for path, cls in scope(trunk, segment) if cls in classes]
    return {path.rpartition(".")[0] for path in held if path.rpartition(".")[2].isdigit()}
