"""Plan: class tokens, which stand beside the positions of a map and don't cross levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from td_transform.analyse import BottomUp
from td_transform.plan.parts import LevelPlan, Part, SegmentPlan


def with_tokens(
    bottom_up: BottomUp, levels: Sequence[LevelPlan], head: SegmentPlan
) -> tuple[tuple[LevelPlan, ...], SegmentPlan]:
    """The levels and the head, each copy with where it takes its class tokens from.

    They are those that the copy before ended with, around the upsampling and the merge, where that
    had as many of the same width. The last level keeps those that the head reads.
    """
    source = _Tokens()
    *before, last = levels
    kept = _keeping(bottom_up, last, head) if head.axes_in.ahead else last
    found = tuple(
        replace(
            level,
            transition=tuple(map(source.passed, level.transition)),
            stage=tuple(map(source.passed, level.stage)),
        )
        for level in (*before, kept)
    )
    return found, source.of_copy(head)


class _Tokens:
    """The width and the number of the class tokens that were met last."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def passed(self, part: Part) -> Part:
        return self.of_copy(part) if isinstance(part, SegmentPlan) else part

    def of_copy(self, copy: SegmentPlan) -> SegmentPlan:
        wanted, last = (copy.width_in, copy.axes_in.ahead), self._last
        if copy.axes_out.ahead:
            self._last = (copy.width_out, copy.axes_out.ahead)
        return replace(copy, new_tokens=copy.axes_in.ahead > 0 and wanted != last)


def _keeping(bottom_up: BottomUp, level: LevelPlan, head: SegmentPlan) -> LevelPlan:
    """The last level without what takes the class tokens away behind its last block."""
    trunk = bottom_up.trunk
    nodes = {node.name: node for node in trunk.trace.graph.nodes}
    last = level.stage[-1] if level.stage else None
    if not isinstance(last, SegmentPlan):
        return level
    end = len(last.nodes)
    while end and not trunk.is_learned(nodes[last.nodes[end - 1].node]):
        node = nodes[last.nodes[end - 1].node]
        if node in trunk.tensors and trunk.axes(node) == head.axes_in:
            cut = replace(last, nodes=last.nodes[:end], end=node.name, axes_out=head.axes_in)
            return replace(level, stage=(*level.stage[:-1], cut))
        end -= 1
    return level
