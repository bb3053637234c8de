"""An autograd function of the user's own, as a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Applied(nn.Module):
    """Applies an autograd function, with its own backward.

    Args:
        function: a subclass of `torch.autograd.Function`.
        constants: those of its arguments that are no tensors, by their positions.
    """

    def __init__(self, function: Any, constants: Mapping[int, Any]) -> None:
        super().__init__()
        self.function = function
        self.constants = dict(constants)

    def forward(self, *tensors: Tensor) -> Tensor:
        """What the function makes of the tensors, in their order."""
        given = iter(tensors)
        count = len(tensors) + len(self.constants)
        args = [self.constants[i] if i in self.constants else next(given) for i in range(count)]
        result: Tensor = self.function.apply(*args)
        return result

    def extra_repr(self) -> str:
        """The function's name."""
        return str(self.function.__qualname__)
