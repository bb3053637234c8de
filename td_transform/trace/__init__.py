"""Trace: a model becomes a graph with shapes, without touching the model.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.trace.input_size import checked_input_size, malformed_size
from td_transform.trace.recorder import HANDS_ON
from td_transform.trace.reparametrised import apply_anew, make_plain, reparametrised
from td_transform.trace.skeleton import make_skeleton
from td_transform.trace.state import ModuleState
from td_transform.trace.trace import Front, Trace, trace
from td_transform.trace.trees import replaced

__all__ = [
    "HANDS_ON",
    "Front",
    "ModuleState",
    "Trace",
    "apply_anew",
    "checked_input_size",
    "make_plain",
    "make_skeleton",
    "malformed_size",
    "reparametrised",
    "replaced",
    "trace",
]
