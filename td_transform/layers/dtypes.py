"""Which numbers a network computes with."""

from __future__ import annotations

import torch
from torch import nn


def dtype_of_layers(module: nn.Module) -> torch.dtype:
    """The type of a module's first parameter that holds no integers; torch's own where it has none."""
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point() or p.is_complex())
    return next(kinds, torch.get_default_dtype())
