"""Tiny networks, one for each way of writing a forward that symbolic tracing stumbles over."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Network(nn.Module):
    """Two convolutions and a classifier; what happens between them is a subclass's `middle`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def middle(self, x: Tensor) -> Any:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        x = self.middle(F.relu(self.first(x)))
        return self.fc(self.second(x).mean((2, 3)))


class ChunkedLoop(Network):
    def middle(self, x: Tensor) -> Any:
        parts = list(x.chunk(4, 1))
        for i in range(1, 4):
            parts[i] = parts[i] + parts[i - 1]
        return torch.cat(parts, 1)


class SplitUnpacked(Network):
    def middle(self, x: Tensor) -> Any:
        a, b = torch.split(x, [3, 5], dim=1)
        return torch.cat([b.sigmoid(), *[t.relu() for t in (a, a)][:1]], 1)


class Unbound(Network):
    def middle(self, x: Tensor) -> Any:
        return torch.stack([t * i for i, t in enumerate(x.unbind(1))], 1)


class IteratedTensor(Network):
    def middle(self, x: Tensor) -> Any:
        return torch.stack([channel.tanh() for channel in x.transpose(0, 1)]).transpose(0, 1)


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


class FloatOfParameter(Network):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.37))

    def middle(self, x: Tensor) -> Any:
        return x * float(self.scale) if self.scale > 0 else -x


class ValueOfTheImage(Network):
    def middle(self, x: Tensor) -> Any:
        if not torch.isfinite(x).all():
            raise ValueError("the image isn't finite")
        return x


class AssertsOnSizes(Network):
    def middle(self, x: Tensor) -> Any:
        b, c, h, w = x.shape
        assert c == 8, (b, c)
        assert h > 2
        assert w % 2 == 0
        return x if h < 10_000 else x[:, :, ::2]


class SizesInViews(Network):
    def middle(self, x: Tensor) -> Any:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(b, c * 4, h * w // 4)
        return F.pixel_shuffle(x.view(-1, 4 * c, h // 2, x.size(-1) // (h // 2)), 2)


class SizesOfTuples(Network):
    def middle(self, x: Tensor) -> Any:
        flat = x.reshape(*x.shape[:2], -1)
        assert (*flat.shape[:2], 1) != (1,)
        back = flat.view(x.size())
        ones = torch.ones(x.shape[2:], device=x.device)
        return (back * ones).reshape((x.shape[0], *tuple(x.shape[1:])))


class SizesInArithmetic(Network):
    def middle(self, x: Tensor) -> Any:
        h, w = x.shape[-2:]
        pad = (-h) % 3, (-w) % 3
        y = F.pad(x, (0, pad[1], 0, pad[0]))
        rows, rest = divmod(h + pad[0], 3)
        size = (math.ceil(h / 2) + math.floor(w / 4) * 0 + rest, math.prod([w, 1]) // 2)
        y = F.interpolate(y, size=size)
        return F.interpolate(y, size=(sum([h, 0]), w)) / (h * w) ** 0.5 * len([rows])


class LenAndNumel(Network):
    def middle(self, x: Tensor) -> Any:
        count = x.numel() // x.shape[0]
        return x * count / (x[0].numel() * x.shape[1])


class LoopOverList(Network):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))

    def middle(self, x: Tensor) -> Any:
        maps = [x]
        for i, conv in enumerate(self.convs):
            maps.append(conv(maps[i]) + maps[-1])
        return sum(maps[1:], maps[0])


class KeywordArguments(Network):
    def inner(self, *tensors: Tensor, **options: Any) -> Tensor:
        return torch.cat(tensors, **options)

    def middle(self, x: Tensor) -> Any:
        return self.inner(x[:, :4], x[:, 4:].relu(), **{"dim": 1})


class ImageInKeywords(Network):
    def forward(self, x: Tensor, *, flip: bool = False, **options: Any) -> Any:
        if flip or options:
            x = x.flip(-1)
        return super().forward(x)

    def middle(self, x: Tensor) -> Any:
        return x


class DictionaryOutput(ImageInKeywords):
    def forward(self, x: Tensor, *, flip: bool = False, **options: Any) -> Any:
        logits = super().forward(x)
        return {"features": x, "logits": logits, "none": None}


@dataclasses.dataclass
class Output:
    features: Tensor
    logits: Tensor
    loss: Tensor | None = None


class DataclassOutput(ImageInKeywords):
    def forward(self, x: Tensor, *, flip: bool = False, **options: Any) -> Any:
        return Output(x, super().forward(x))


Named = collections.namedtuple("Named", ["logits", "extra"])


class NamedTupleOutput(ImageInKeywords):
    def forward(self, x: Tensor, *, flip: bool = False, **options: Any) -> Any:
        return Named(super().forward(x), x)


class InPlaceOperators(Network):
    def middle(self, x: Tensor) -> Any:
        y = self.second(x)
        shortcut = y
        y += x
        y.mul_(2).add_(x, alpha=0.5)
        y *= x.sigmoid()
        y **= 2
        return F.relu(y, inplace=True) ** 2 + shortcut


class InPlaceModule(Network):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def middle(self, x: Tensor) -> Any:
        x = self.second(x)
        y = self.relu(x)
        return y + x  # x has been written into


class SlicesAssigned(Network):
    def middle(self, x: Tensor) -> Any:
        out = torch.zeros_like(x)
        k = x.shape[1] // 2
        out[:, :k] = x[:, k:]
        out[:, k:, 1:] = x[:, :k, :-1]
        out[:, 0] += 1
        return out


class WrittenThroughViews(Network):
    def middle(self, x: Tensor) -> Any:
        x = self.second(x)
        part = x.view(x.shape[0], 2, 4, *x.shape[2:])
        part[:, 0].mul_(3)
        x[:, 4:].clamp_(min=0)
        torch.sin(x, out=x)
        return x


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


class ConstantsInForward(Network):
    def middle(self, x: Tensor) -> Any:
        b, c, h, w = x.shape
        rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(b, 1, h, w)
        columns = torch.arange(w).to(x).view(1, 1, 1, -1) * torch.ones_like(rows)
        kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
        kernel = (kernel[:, None] * kernel[None]).repeat(x.shape[1], 1, 1, 1) / 16
        y = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
        mixed = torch.einsum("bchw,cd->bdhw", y, torch.eye(c, device=x.device))
        return torch.cat([mixed[:, :6], rows, columns / columns.max()], 1)


class TensorsOfPython(Network):
    def __init__(self) -> None:
        super().__init__()
        self.tables = [torch.arange(8.0).view(1, 8, 1, 1)]
        self.attribute = torch.rand(8, 1, 1)

    def middle(self, x: Tensor) -> Any:
        return x * self.tables[0] + torch.Tensor([0.5]) * self.attribute


class ValuesAndIndices(Network):
    def middle(self, x: Tensor) -> Any:
        best = x.max(1)[0].unsqueeze(1)
        low = x.min(dim=1, keepdim=True).values
        top, _ = x.topk(2, dim=1)
        pooled, _ = F.max_pool2d(x, 3, 1, 1, return_indices=True)
        return torch.max(x, pooled) + best - low + top[:, :1]


class IntOfBatch(Network):
    """As Swin's first code has it: windows counted with a division of floats."""

    def middle(self, x: Tensor) -> Any:
        _, c, h, w = x.shape
        windows = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, c, 4, 4)
        n = int(windows.shape[0] / (h * w / 4 / 4))
        halves = windows.relu().view(n * 2, h * w // 32, c, 4, 4).flip(1)
        grid = halves.reshape(n, h // 4, w // 4, c, 4, 4)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


class FrozenByInt(Network):
    def middle(self, x: Tensor) -> Any:
        side = int(math.sqrt(x.shape[2] * x.shape[3]))
        return F.adaptive_avg_pool2d(x, side)


class FrozenByBranch(Network):
    def middle(self, x: Tensor) -> Any:
        return x.relu() if x.shape[2] < 32 else x


class FrozenByLoop(Network):
    def middle(self, x: Tensor) -> Any:
        return torch.stack([x[:, :, i] for i in range(x.shape[2])], 2)


class PositionTable(Network):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 8, 16, 16))

    def middle(self, x: Tensor) -> Any:
        return x + self.table


class TablesBySize(Network):
    def middle(self, x: Tensor) -> Any:
        return x * {8: 2.0, 4: 3.0}[x.shape[1]]


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


class IndexedByTensors(Network):
    def middle(self, x: Tensor) -> Any:
        order = torch.arange(7, -1, -1)
        mask = torch.ones(8, dtype=torch.bool)
        return x[:, order][:, mask, ..., None].squeeze(-1)


class TurnedAndCut(Network):
    def middle(self, x: Tensor) -> Any:
        x = x + x.mean(axis=(2, 3), keepdims=True) + x.mT.mT
        ahead, behind = x.narrow(1, 0, x.shape[1] // 2), torch.narrow(x, -3, -4, 4)
        matrix = x.select(-1, -1).mean(2)
        return torch.cat([ahead, behind], axis=1) + (matrix.T.t() @ matrix.t())[0, 0]


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
