"""Tiny networks whose operators stand in functions and modules that symbolic tracing stumbles over."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.trace.constructs import ImageInKeywords, Network


class Checkpointed(Network):
    def middle(self, x: Tensor) -> Any:
        return checkpoint(self.second, x, use_reentrant=False) + x


class CheckpointedOldStyle(Network):
    def middle(self, x: Tensor) -> Any:
        x = x + 0.0
        return checkpoint(lambda t: self.second(t).relu(), x, use_reentrant=True)


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grads[0] * s * (1 + x * (1 - s))


class AutogradFunction(Network):
    def middle(self, x: Tensor) -> Any:
        return _Swish.apply(x)  # type: ignore[no-untyped-call]


class _Signs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        return x.sign() * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


class StraightThrough(Network):
    def middle(self, x: Tensor) -> Any:
        return _Signs.apply(x, 0.5) + 0.1 * x  # type: ignore[no-untyped-call]


@torch.jit.script
def _scripted(x: Tensor) -> Tensor:
    halves = (x * torch.sigmoid(x)).chunk(2, 1)
    return torch.cat([halves[1], halves[0]], dim=1)


class ScriptedFunction(Network):
    def middle(self, x: Tensor) -> Any:
        return _scripted(x)


@torch.jit.ignore  # type: ignore[untyped-decorator]
def _ignored(x: Tensor) -> Tensor:
    return x.relu() if x.shape[1] == 8 else x


@torch.fx.wrap
def _wrapped(x: Tensor) -> Tensor:
    return x.tanh() if x.shape[0] > 0 else x


class DecoratedFunctions(Network):
    def middle(self, x: Tensor) -> Any:
        return _wrapped(_ignored(x))


class Attention(Network):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def middle(self, x: Tensor) -> Any:
        b, c, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2))
        q, k, v = qkv.reshape(b, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        z = ((q * (c // 2) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return (y - z + v).transpose(1, 2).reshape(b, h * w, c).transpose(1, 2).reshape(b, c, h, w)


class MultiheadLeaf(Network):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def middle(self, x: Tensor) -> Any:
        t = x.flatten(2).transpose(1, 2)
        y, _ = self.attention(t, t, t, need_weights=False)
        return (t + y).transpose(1, 2).reshape(x.shape)


class Contexts(Network):
    def middle(self, x: Tensor) -> Any:
        with torch.no_grad():
            statistics = x.mean((2, 3), keepdim=True)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return x.float() - statistics


class Parametrised(Network):
    def __init__(self) -> None:
        super().__init__()
        self.second = parametrizations.weight_norm(self.second)
        self.direct = parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))
        self.old = nn.utils.weight_norm(nn.Conv2d(8, 8, 1))

    def direct_weights(self) -> Any:
        return self.direct.weight, self.direct.bias

    def middle(self, x: Tensor) -> Any:
        return self.old(F.conv2d(x, *self.direct_weights()))


class OwnDictionary(Network):
    """A dictionary among the attributes that takes items its own way (as mmengine's ConfigDict)."""

    class Settings(dict[str, Any]):
        def update(self, *others: Any) -> None:
            super().update(dict.items(others[0]))

    def __init__(self) -> None:
        super().__init__()
        self.settings = self.Settings(slope=0.5)

    def middle(self, x: Tensor) -> Any:
        slope = self.settings["slope"]
        self.settings["slope"] = 7.0
        return F.leaky_relu(x, slope)


class Probabilities(Network):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return logits.softmax(1), logits

    def middle(self, x: Tensor) -> Any:
        return x


class FloatFunctionals(Network):
    """What a model that can be quantised adds with, before it is."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = nn.quantized.FloatFunctional()

    def middle(self, x: Tensor) -> Any:
        return self.sum.add(x, self.second(x))


class StateKept(Network):
    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def middle(self, x: Tensor) -> Any:
        if self.last is None:
            self.last = torch.zeros_like(x[:1])
        y = x + self.last
        self.seen = y
        return y


class StopsGradient(Network):
    def middle(self, x: Tensor) -> Any:
        return x.detach() + x.data + x.mT.mT


class RepeatedModule(Network):
    def middle(self, x: Tensor) -> Any:
        for _ in range(2):
            x = self.second(x)
        return x.to(torch.float32).to("cpu").type_as(x)


class CacheOnTheModule(Network):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.rand(8))
        self.cache: dict[str, Tensor] = {}

    def middle(self, x: Tensor) -> Any:
        key = str(x.device)
        if key not in self.cache:
            self.cache[key] = self.bias[:, None, None] * 2
        return x + self.cache[key]


class FunctionalDropout(Network):
    def middle(self, x: Tensor) -> Any:
        x = F.dropout(x, 0.0, self.training)
        return F.dropout(x, 0.5, training=self.training)


class Gate(nn.Module):
    """A leaf that can't run on the meta device."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x, -x) if bool(x.sum() > 0) else (-x, x)


class LeafWithBranches(Network):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def middle(self, x: Tensor) -> Any:
        positive, negative = self.gate(x)
        return positive * 2 + negative


class DataDependentShape(Network):
    def middle(self, x: Tensor) -> Any:
        even = torch.arange(x.shape[1], device=x.device) % 2 == 0
        return x.repeat_interleave(2, 1)[:, torch.nonzero(even.repeat(2)).squeeze(1)]


class Wrapped(nn.Module):
    """A network inside of another one's wrapper, with arguments of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.DataParallel(ImageInKeywords())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)
