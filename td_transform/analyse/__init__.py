"""Analyse: a graph becomes stages.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.analyse.blocks import scope
from td_transform.analyse.bottom_up import BottomUp, analyse
from td_transform.analyse.infer import call_of, infer, operator_of
from td_transform.analyse.segments import entry_conv, entry_kernel
from td_transform.analyse.siblings import matched_modules
from td_transform.analyse.solve import solve
from td_transform.analyse.stages import Stage
from td_transform.analyse.style import UnitStyle
from td_transform.analyse.trunk import Segment, Trunk, attribute_of

__all__ = [
    "BottomUp",
    "Segment",
    "Stage",
    "Trunk",
    "UnitStyle",
    "analyse",
    "attribute_of",
    "call_of",
    "entry_conv",
    "entry_kernel",
    "infer",
    "matched_modules",
    "operator_of",
    "scope",
    "solve",
]
