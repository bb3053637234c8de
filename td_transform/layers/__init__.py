"""The layers of a top-down network: pyramid, unit, merge, upsampling."""

from __future__ import annotations

from td_transform.layers.merge import Merge, MergeKind
from td_transform.layers.pyramid import Pyramid, PyramidKind
from td_transform.layers.unit import ChannelsLast, FunctionLayer, Scope, Unit
from td_transform.layers.upsample import Upsample, UpsampleKind

__all__ = [
    "ChannelsLast",
    "FunctionLayer",
    "Merge",
    "MergeKind",
    "Pyramid",
    "PyramidKind",
    "Scope",
    "Unit",
    "Upsample",
    "UpsampleKind",
]
