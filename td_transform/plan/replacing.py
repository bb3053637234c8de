"""Plan: which blocks can be replaced, as their copies turned out not to run."""

from __future__ import annotations

from td_transform.analyse import BottomUp
from td_transform.plan.parts import SegmentPlan
from td_transform.plan.plan import Plan


def replaceable(bottom_up: BottomUp, plan: Plan, node: str | None) -> int | None:
    """The stage, counted from 1 at the finest, whose level has the copy of a node in its transition.

    Args:
        bottom_up: the analysed model.
        plan: what was planned of it.
        node: the name of a bottom-up node.

    Returns:
        None where there is none, or the stage would be left without blocks.
    """
    for level in plan.levels:
        copies = [part for part in level.transition if isinstance(part, SegmentPlan)]
        if level.made_from is None or node not in {n.node for copy in copies for n in copy.nodes}:
            continue
        stage = bottom_up.stages[level.made_from - 1]
        return level.made_from if stage.has_repeated_blocks or stage.forms else None
    return None
