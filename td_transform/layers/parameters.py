"""What a network computes with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def parameters_of(module: nn.Module) -> Iterator[nn.Parameter]:
    """All parameters, whatever a class of the user's own calls so (MAML's inner loop: a list)."""
    return nn.Module.parameters(module)


def dtype_of_layers(module: nn.Module) -> torch.dtype:
    """The type of the first parameter that holds no integers; torch's own where there is none."""
    kinds = (p.dtype for p in parameters_of(module) if p.is_floating_point() or p.is_complex())
    return next(kinds, torch.get_default_dtype())
