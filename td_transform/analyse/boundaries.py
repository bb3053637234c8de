"""Analyse: stages whose boundaries the user names, by the modules that hold them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise

from torch import fx

from td_transform.analyse.blocks import scope
from td_transform.analyse.segments import beside_pooling
from td_transform.analyse.stem import joined_stem
from td_transform.analyse.trunk import Segment, Trunk, is_coarser
from td_transform.errors import TopDownError
from td_transform.layers.dimensions import agreed

Group = tuple[list[Segment], list[Segment]]


def named_stages(
    trunk: Trunk, segments: Sequence[Segment], paths: Sequence[str]
) -> tuple[Segment | None, list[Group]]:
    """The stem, and of every stage the poolings that lead to it and its units and blocks.

    A stage begins with the first unit or block of its module, or with what brings the map to its
    resolution just before; it ends where the next begins, the last one at the head.

    Args:
        trunk: the trunk.
        segments: its units, blocks and poolings, fine to coarse.
        paths: of the modules that hold the stages, fine to coarse.

    Raises:
        TopDownError: a path is none of a module on the trunk, they are out of order, or the map
            that a stage ends with is no coarser than the one before.
    """
    if len(paths) < 2:
        raise _refused(f"{len(paths)} stage", "two or more stages", "name all stages, or none")
    found = [_segments_of(trunk, segments, path) for path in paths]
    for (before, path_before), (after, path_after) in pairwise(zip(found, paths, strict=True)):
        if after[0] <= before[0]:
            raise _refused(
                f"'{path_after}', which does not come after '{path_before}'",
                "stages from fine to coarse", "name them in the order in which they run",
            )  # fmt: skip
    starts = [found[0][0]]
    for before, after in pairwise(found):
        starts.append(_with_transition(segments, before[1] + 1, after[0]))
    groups = [
        _group(trunk, segments[start:end])
        for start, end in pairwise([*starts, len(segments)])
    ]  # fmt: skip
    _check_strides(groups, paths)
    return joined_stem(segments[: starts[0]]), groups


def _segments_of(trunk: Trunk, segments: Sequence[Segment], path: str) -> tuple[int, int]:
    """The first and the last segment that a module holds."""
    known = [name for name, _ in trunk.trace.skeleton.named_modules()]
    if path not in known:
        close = difflib.get_close_matches(path, known, n=1)
        raise _refused(
            f"'{path}', which the model does not have", "paths as named_modules() gives them",
            f"perhaps you mean '{close[0]}'" if close else "take one of named_modules()",
        )  # fmt: skip
    touched = [
        i for i, s in enumerate(segments) if any(_inside(n, path) for n in _learned(trunk, s))
    ]
    if not touched:
        raise _refused(
            f"'{path}', in which no unit or block of the trunk lies",
            "modules between the image and the head that every path passes",
            "name the module that the stage's first unit or block lies in",
        )  # fmt: skip
    first = segments[touched[0]]
    if not all(_inside(n, path) for n in _learned(trunk, first)):
        around = next((name for name, _ in reversed(scope(trunk, first)) if name != path), "")
        raise _refused(
            f"'{path}', which begins inside a block", "modules that hold whole units and blocks",
            f"name '{around}'" if around else "name the module around that block",
        )  # fmt: skip
    return touched[0], touched[-1]


def _learned(trunk: Trunk, segment: Segment) -> list[fx.Node]:
    return [n for n in segment.nodes if trunk.is_learned(n)]


def _inside(node: fx.Node, path: str) -> bool:
    stack = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    names = [*stack, str(node.target)] if node.op == "call_module" else stack
    return any(name == path or name.startswith(f"{path}.") for name in names)


def _with_transition(segments: Sequence[Segment], free: int, start: int) -> int:
    """Where a stage starts, with what lowers the resolution between the stage before and it."""
    return next((i for i in range(free, start) if segments[i].crosses), start)


def _group(trunk: Trunk, segments: Sequence[Segment]) -> Group:
    leading = next(i for i, s in enumerate(segments) if s.kind != "pool")
    body = [kept for s in segments[leading:] if (kept := _without_pooling(trunk, s)) is not None]
    return list(segments[:leading]), body


def _without_pooling(trunk: Trunk, segment: Segment) -> Segment | None:
    """A pooling within a stage goes; what stands beside it stays."""
    return beside_pooling(trunk, segment) if segment.kind == "pool" else segment


def _check_strides(groups: Sequence[Group], paths: Sequence[str]) -> None:
    strides = [body[-1].stride_out for _, body in groups]
    for (before, path_before), (after, path_after) in pairwise(zip(strides, paths, strict=True)):
        if not is_coarser(after, before):
            raise _refused(
                f"'{path_after}' at stride {agreed(after)}, behind '{path_before}' at stride "
                f"{agreed(before)}",
                "every stage at a coarser resolution than the one before",
                f"leave '{path_after}' out: it belongs to the stage before",
            )  # fmt: skip


def _refused(seen: str, expected: str, remedy: str) -> TopDownError:
    return TopDownError("argument 'stages'", seen=seen, expected=expected, remedy=remedy)
