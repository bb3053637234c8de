"""Analyse: a graph becomes stages.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.analyse.blocks import scope
from td_transform.analyse.bottom_up import BottomUp, analyse
from td_transform.analyse.front import behind_front
from td_transform.analyse.infer import call_of, infer, operator_of
from td_transform.analyse.segments import (
    behind_unit,
    beside_pooling,
    covers,
    entry_conv,
    entry_kernel,
)
from td_transform.analyse.siblings import matched_modules, operations
from td_transform.analyse.solve import pinned_inflow, solve
from td_transform.analyse.stages import Stage
from td_transform.analyse.style import UnitStyle
from td_transform.analyse.trunk import Segment, Stride, Trunk, attribute_of, is_coarser

__all__ = [
    "BottomUp",
    "Segment",
    "Stage",
    "Stride",
    "Trunk",
    "UnitStyle",
    "analyse",
    "attribute_of",
    "behind_front",
    "behind_unit",
    "beside_pooling",
    "call_of",
    "covers",
    "entry_conv",
    "entry_kernel",
    "infer",
    "is_coarser",
    "matched_modules",
    "operations",
    "operator_of",
    "pinned_inflow",
    "scope",
    "solve",
]
