"""Inference: a network handed to a runtime that fuses and lays out what torch runs operator by operator.

What users import is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.inference.optimize import OptimizedNetwork, optimize_for_inference

__all__ = ["OptimizedNetwork", "optimize_for_inference"]
