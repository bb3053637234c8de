"""Plan: stages become an immutable description of the top-down network.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.plan.cost import PlanCost, Recomputation, Work
from td_transform.plan.levels import LevelPlanner
from td_transform.plan.parts import (
    Change,
    Drop,
    Keep,
    LayerPlan,
    LevelPlan,
    NodePlan,
    OwnPlan,
    Part,
    PoolTo,
    SegmentPlan,
    SizePreserving,
    TensorPlan,
    UnitPlan,
    Upsampled,
    UpsamplePlan,
)
from td_transform.plan.plan import Plan
from td_transform.plan.replacing import replaceable

__all__ = [
    "Change",
    "Drop",
    "Keep",
    "LayerPlan",
    "LevelPlan",
    "LevelPlanner",
    "NodePlan",
    "OwnPlan",
    "Part",
    "Plan",
    "PlanCost",
    "PoolTo",
    "Recomputation",
    "SegmentPlan",
    "SizePreserving",
    "TensorPlan",
    "UnitPlan",
    "UpsamplePlan",
    "Upsampled",
    "Work",
    "replaceable",
]
