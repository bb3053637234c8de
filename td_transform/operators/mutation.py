"""What writes into tensors, as functions whose results say so: nothing depends on statements alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def assigned(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """``tensor[index] = value``, with the tensor as the result."""
    tensor[index] = value
    return tensor


def after(tensor: Tensor, written: Any) -> Tensor:
    """The tensor, once something has written into its memory through another view of it."""
    del written
    return tensor
