"""Tiny networks, one for each way of computing with lists, sizes, values and outputs in a forward."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class SizesKeptInTensors(Network):
    """A head's width as a plain attribute, the bounds of a group of channels as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.each = torch.div(torch.tensor(8), 2, rounding_mode="floor")
        self.register_buffer("bounds", torch.tensor([2, 6]))

    def middle(self, x: Tensor) -> Any:
        x = x.reshape(x.shape[0], -1, self.each, *x.shape[2:]).flip(2).flatten(1, 2)
        start, end = self.bounds
        x[:, start:end] = x[:, start:end] + 1
        return torch.cat([x[:, :start], x[:, start:end] * self.each**-0.5, x[:, end:]], 1)


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
