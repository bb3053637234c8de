"""Trace: a model becomes a graph with shapes, without touching the model.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.trace.skeleton import make_skeleton
from td_transform.trace.trace import Trace, trace

__all__ = ["Trace", "make_skeleton", "trace"]
