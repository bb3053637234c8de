"""The layers of a top-down network: pyramid, unit, merge, upsampling."""

from __future__ import annotations

from td_transform.layers.applied import Applied
from td_transform.layers.front import InputFront
from td_transform.layers.merge import Merge, MergeKind
from td_transform.layers.own import LiftSpec, MergeSpec, PyramidSpec, UpsampleSpec, is_own, name_of
from td_transform.layers.pyramid import OwnPyramid, Pyramid, PyramidKind
from td_transform.layers.unit import ChannelsLast, FunctionLayer, Scope, Unit
from td_transform.layers.upsample import OwnUpsample, Upsample, UpsampleKind, learns

__all__ = [
    "Applied",
    "ChannelsLast",
    "FunctionLayer",
    "InputFront",
    "LiftSpec",
    "Merge",
    "MergeKind",
    "MergeSpec",
    "OwnPyramid",
    "OwnUpsample",
    "Pyramid",
    "PyramidKind",
    "PyramidSpec",
    "Scope",
    "Unit",
    "Upsample",
    "UpsampleKind",
    "UpsampleSpec",
    "is_own",
    "learns",
    "name_of",
]
