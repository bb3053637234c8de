"""Turn any bottom-up CNN into the top-down network of Lelekas et al. (2020)."""

from __future__ import annotations

from td_transform.emit import TopDownBackbone, TopDownNetwork
from td_transform.errors import (
    ConversionError,
    StructureError,
    TopDownError,
    TraceError,
    UnknownOperatorError,
    WidthConflictError,
)
from td_transform.fields import (
    Comparison,
    FieldRow,
    MeasuredFields,
    MeasuredRow,
    ReceptiveFields,
    Tile,
    compare,
    receptive_field,
)
from td_transform.inference import OptimizedNetwork, optimize_for_inference
from td_transform.layers import (
    LiftSpec,
    Merge,
    MergeSpec,
    Pyramid,
    PyramidSpec,
    Unit,
    Upsample,
    UpsampleSpec,
)
from td_transform.operators import Operator, Reach, Taps, Window, operator_rule, register_operator
from td_transform.options import Conversion, Options
from td_transform.plan import LevelPlan, Plan
from td_transform.saving import load_topdown, save_topdown
from td_transform.tiles import TiledNetwork, tiled
from td_transform.transform import build, plan_topdown, to_topdown

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Conversion",
    "ConversionError",
    "FieldRow",
    "LevelPlan",
    "LiftSpec",
    "MeasuredFields",
    "MeasuredRow",
    "Merge",
    "MergeSpec",
    "Operator",
    "OptimizedNetwork",
    "Options",
    "Plan",
    "Pyramid",
    "PyramidSpec",
    "Reach",
    "ReceptiveFields",
    "StructureError",
    "Taps",
    "Tile",
    "TiledNetwork",
    "TopDownBackbone",
    "TopDownError",
    "TopDownNetwork",
    "TraceError",
    "Unit",
    "UnknownOperatorError",
    "Upsample",
    "UpsampleSpec",
    "WidthConflictError",
    "Window",
    "build",
    "compare",
    "load_topdown",
    "operator_rule",
    "optimize_for_inference",
    "plan_topdown",
    "receptive_field",
    "register_operator",
    "save_topdown",
    "tiled",
    "to_topdown",
]
