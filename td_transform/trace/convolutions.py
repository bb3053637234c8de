"""Convolutions with a forward of their own."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn


def is_conventional(module: nn.Module) -> bool:
    """Does a module on the meta device that is a convolution read and give the channels that it says?

    One whose forward takes several maps may be told more than its image; it is believed. One that has
    put its kernel away is a container of others.
    """
    if not isinstance(module, nn.modules.conv._ConvNd):
        return True
    forward = type(module).forward
    if forward.__module__ == nn.modules.conv.__name__ or _inputs(module) != 1:
        return True
    conv: Any = module
    if conv.weight is None:
        return False
    sides = [4 * k * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    image = torch.empty(1, conv.in_channels, *sides, device="meta", dtype=conv.weight.dtype)
    try:
        with torch.no_grad():
            out = conv(image)
    except Exception:  # whatever a stranger's forward says
        return False
    return isinstance(out, Tensor) and tuple(out.shape[:2]) == (1, conv.out_channels)


def _inputs(module: nn.Module) -> int:
    """How many arguments a forward needs."""
    parameters = inspect.signature(module.forward).parameters.values()
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )
