"""A unit of a top-down network, and the small modules that stand for functions and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Unit(nn.Module):
    """A convolution with its norm and activation: conv-norm-act, conv-act-norm or norm-act-conv."""

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module | None,
        activation: nn.Module | None,
        *,
        pre_activation: bool = False,
        norm_last: bool = False,
    ) -> None:
        super().__init__()
        layers = {"conv": conv, "norm": norm, "activation": activation}
        around = ("activation", "norm") if norm_last else ("norm", "activation")
        for name in (*around, "conv") if pre_activation else ("conv", *around):
            if (layer := layers[name]) is not None:
                self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class ChannelsLast(nn.Module):
    """A layer that works on the last dimension, as the bottom-up model runs it, on (N, C, H, W)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


class FunctionLayer(nn.Module):
    """A function of the bottom-up model's forward (an activation, say) as a layer."""

    def __init__(self, function: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.function, str):
            return getattr(x, self.function)(*self.args, **self.kwargs)  # type: ignore[no-any-return]
        return self.function(x, *self.args, **self.kwargs)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", str(self.function))


class Scope(nn.Module):
    """A name in the module tree; prints as the class of the bottom-up module that stood there."""

    def __init__(self, shown_as: str = "Scope") -> None:
        super().__init__()
        self.shown_as = shown_as

    def _get_name(self) -> str:
        return self.shown_as
