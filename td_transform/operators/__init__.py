"""Operator knowledge: strides, windows and channel coupling, in one registry that users extend."""

from __future__ import annotations

from td_transform.operators import builtin as builtin
from td_transform.operators import builtin_functions as builtin_functions
from td_transform.operators.dimensions import Dim, Dims, Spatial, TensorInfo, Window
from td_transform.operators.recurrent import run_one_step, step_axis
from td_transform.operators.registry import (
    Call,
    Inference,
    Operator,
    Role,
    function_operator,
    module_operator,
    node_operator,
    operator_rule,
    register_operator,
)
from td_transform.taps import Reach, Taps

__all__ = [
    "Call",
    "Dim",
    "Dims",
    "Inference",
    "Operator",
    "Reach",
    "Role",
    "Spatial",
    "Taps",
    "TensorInfo",
    "Window",
    "function_operator",
    "module_operator",
    "node_operator",
    "operator_rule",
    "register_operator",
    "run_one_step",
    "step_axis",
]
