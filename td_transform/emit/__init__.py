"""Emit: a plan becomes a network.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.emit.count import counted
from td_transform.emit.emit import Draft, draft, emit
from td_transform.emit.network import TopDownBackbone, TopDownNetwork, check_topdown

__all__ = [
    "Draft",
    "TopDownBackbone",
    "TopDownNetwork",
    "check_topdown",
    "counted",
    "draft",
    "emit",
]
