"""Emit: what of a network waits for its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

# where values come from: drawn anew, drawn like those of the layer that a new one is modelled on, the
# bottom-up model's own, a copy of those, or what the user's own function makes
Values = Literal["fresh", "modelled", "shared", "copied", "made"]


@dataclass(frozen=True)
class Placed:
    """A module of the network that waits for its values.

    Args:
        module: the module, its tensors on the meta device.
        source: the bottom-up module that it was made from.
        values: where its values come from.
        made: for a module of the user's own: makes it again, on a device.
    """

    module: nn.Module
    source: nn.Module | None
    values: Values
    made: Callable[[torch.device], nn.Module] | None = None


@dataclass(frozen=True)
class PlacedTensor:
    """A parameter or buffer of the network that waits for its values."""

    owner: nn.Module
    name: str
    source: torch.Tensor
    values: Values
