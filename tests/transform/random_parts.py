"""What random networks are made of: blocks, functions that no rule may know, stems, heads."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import networks as plain
from tests.transform import odd_attention as attention
from tests.transform import odd_heads as heads
from tests.transform import oddities as odd
from tests.transform.plain import Residual

Block = Callable[[int], nn.Module]


class Split(nn.Module):
    """Lists from `chunk`, `split` and `unbind` that are looped over; branches of several kinds."""

    def __init__(self, width: int, how: str) -> None:
        super().__init__()
        self.how, self.half = how, width // 2
        self.convs = nn.ModuleList(nn.Conv2d(self.half, self.half, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "chunk":
            parts = list(x.chunk(2, 1))
        elif self.how == "split":
            parts = list(torch.split(x, self.half, dim=1))
        else:
            parts = list(x.unflatten(1, (2, self.half)).unbind(1))
        done: list[Tensor] = []
        for conv, part in zip(self.convs, parts, strict=True):
            done.append(conv(part if not done else part + done[-1]))
        return torch.cat(done, 1)


class Recurrent(nn.Module):
    """Rows as sequences."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        rows, _ = self.rnn(x.permute(0, 2, 3, 1).reshape(n * h, w, c))
        return rows.reshape(n, h, w, c).permute(0, 3, 1, 2)


class Branches(nn.Module):
    """Two outputs, one of them a list."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"main": self.a(x), "more": [self.b(x), x]}


class UsesBranches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = Branches(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.branches(x)
        return out["main"] + sum(out["more"])


class Positions(nn.Module):
    """A table of positions that fits one resolution."""

    def __init__(self, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, width, *size) / 10)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + self.table)


class ResizedPositions(Positions):
    """The same, interpolated to the map."""

    def forward(self, x: Tensor) -> Tensor:
        table = F.interpolate(self.table, x.shape[-2:], mode="bilinear", align_corners=False)
        return self.conv(x + table)


class SizeBranch(nn.Module):
    """Python decides by the size of the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if h > 8 and w > 8:
            x = F.pad(x, (0, w % 2, 0, h % 2))
        return self.conv(x)[..., :h, :w]


class PatchMerging(nn.Module):
    """Swin's: four neighbours to the channels, channels last."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, out)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1))).permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """A stage on (N, H*W, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        for _ in range(2):
            tokens = tokens + F.gelu(self.mlp(self.norm(tokens)))
        return tokens.transpose(1, 2).unflatten(2, size)


class Pointwise(nn.Module):
    """A convolution, then a function that no rule may know."""

    def __init__(self, width: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(width, width, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "roll": lambda x: torch.roll(x, 1, 2),
    "roll channels": lambda x: torch.roll(x, 1, 1),
    "flip": lambda x: x.flip(3),
    "cumsum": lambda x: x.cumsum(2) / 16,
    "sort": lambda x: x.sort(1)[0],
    "topk": lambda x: x * x.topk(2, 1)[0].mean(1, keepdim=True).sigmoid(),
    "fft": lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real,
    "softmax over positions": lambda x: x.flatten(2).softmax(-1).view_as(x) + x,
    "quantile": lambda x: x - x.flatten(2).median(-1)[0][..., None, None],
    "index": lambda x: x[:, torch.arange(x.shape[1] - 1, -1, -1)],
    "gather": lambda x: x.gather(1, x.argmax(1, keepdim=True)) + x,
    "matmul": lambda x: x @ x.transpose(2, 3) @ x / (x.shape[2] * x.shape[3]),
    "einsum": lambda x: x + torch.einsum("nchw,ndhw->ncd", x, x).mean(2)[..., None, None],
    "norm": lambda x: x / (x.norm(dim=1, keepdim=True) + 1),
    "group view": lambda x: x.view(x.shape[0], 2, -1, *x.shape[2:]).flip(1).flatten(1, 2),
    "repeat": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "stack": lambda x: torch.stack([x, -x]).amax(0),
    "where": lambda x: torch.where(x > x.mean(), x, 0.1 * x),
    "std": lambda x: x * (1 + x.std((2, 3), keepdim=True)),
    "clone in place": lambda x: x.clone().mul_(2).add_(1),
    "interpolate there and back": lambda x: F.interpolate(
        F.avg_pool2d(x, 2, ceil_mode=True), size=x.shape[-2:]
    ),
    "grid sample": lambda x: F.grid_sample(
        x,
        F.affine_grid(torch.eye(2, 3).to(x).expand(x.shape[0], 2, 3), x.shape, align_corners=False),
        align_corners=False,
    ),
    "local response": lambda x: F.local_response_norm(x, 3),
    "lp pool": lambda x: F.lp_pool2d(x.abs() + 0.1, 2, 3, 1)[..., :1, :1] + x,
}


def functions(rng: random.Random) -> Block:
    """A unit with one of the functions."""
    name = rng.choice(sorted(FUNCTIONS))
    return lambda width: Pointwise(width, FUNCTIONS[name])


BLOCKS: dict[str, Block] = {
    "unit": lambda w: plain.cna(w, w),
    "pointwise": lambda w: plain.cna(w, w, 1),
    "residual": lambda w: plain.Residual(w, w),
    "bottleneck": lambda w: plain.Residual(w, w, bottleneck=True, groups=2, gate=True),
    "pre-activation": lambda w: plain.PreActivation(w, w),
    "inverted": lambda w: plain.InvertedBottleneck(w, w),
    "convnext": plain.ConvNeXtBlock,
    "shuffle": plain.ChannelShuffle,
    "excursion": plain.Excursion,
    "se": lambda w: nn.Sequential(plain.cna(w, w), plain.SqueezeExcite(w)),
    "chunk": lambda w: Split(w, "chunk"),
    "split": lambda w: Split(w, "split"),
    "unbind": lambda w: Split(w, "unbind"),
    "recurrent": lambda w: Residual(Recurrent(w)),
    "outputs": UsesBranches,
    "size branch": SizeBranch,
    "tokens": Tokens,
    "attention": lambda w: Residual(attention.MultiheadAttention(w)),
    "window attention": lambda w: Residual(attention.WindowAttention(w)),
    "non-local": lambda w: Residual(attention.NonLocal(w)),
    "global context": attention.GlobalContext,
    "conditional": odd.ConditionalConv,
    "coordinates": lambda w: odd.CoordinateConv(w, w),
    "unfold": attention.Unfold,
    "position encoding": attention.PositionEncoding,
    "rms": odd.RMSNorm,
    "in-place norm": odd.InPlaceNorm,
    "positions": lambda w: Residual(Positions(w, (8, 8))),
    "resized positions": lambda w: ResizedPositions(w, (8, 8)),
    "group norm": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, 1, 1), nn.GroupNorm(2, w), nn.SiLU()),
    "instance norm": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, 1, 1), nn.InstanceNorm2d(w)),
    "asymmetric": lambda w: nn.Sequential(
        nn.Conv2d(w, w, (1, 3), padding=(0, 1)), nn.Conv2d(w, w, (3, 1), padding=(1, 0)), nn.PReLU(w)
    ),
    "dilated": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, padding=2, dilation=2), nn.ELU()),
    "valid": lambda w: nn.Sequential(nn.Conv2d(w, w, 3), nn.ReLU()),
    "same": lambda w: nn.Conv2d(w, w, 3, padding="same", padding_mode="circular"),
    "dropout": lambda w: nn.Sequential(plain.cna(w, w), nn.Dropout2d(0.1)),
    "identity": lambda w: nn.Identity(),
}  # fmt: skip


class Slice(nn.Module):
    """Every other row and column, then a convolution."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[..., ::2, ::2])


class Halve(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=0.5, mode="bilinear"))


class Parallel(nn.Module):
    """Two ways down, joined."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out - width if out > width else out, 3, 2, 1)
        self.concatenates = out > width
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.project = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.concatenates:
            return torch.cat([self.conv(x), self.pool(x)], 1)
        return self.conv(x) + self.project(self.pool(x))


Down = Callable[[int, int], nn.Module]
DOWN: dict[str, Down] = {
    "strided": lambda a, b: plain.cna(a, b, 3, 2),
    "even kernel": lambda a, b: plain.cna(a, b, 2, 2),
    "norm first": lambda a, b: nn.Sequential(nn.BatchNorm2d(a), nn.Conv2d(a, b, 2, 2)),
    "residual": lambda a, b: plain.Residual(a, b, 2),
    "pre-activation": lambda a, b: plain.PreActivation(a, b, 2),
    "inverted": lambda a, b: plain.InvertedBottleneck(a, b, 2),
    "inception": lambda a, b: nn.Sequential(plain.Inception(a, 8, 2), plain.cna(8 + a, b, 1)),
    "max": lambda a, b: nn.Sequential(nn.MaxPool2d(2), plain.cna(a, b)),
    "max after": lambda a, b: nn.Sequential(plain.cna(a, b), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "average": lambda a, b: nn.Sequential(plain.cna(a, b, 1), nn.AvgPool2d(2)),
    "blur": lambda a, b: nn.Sequential(plain.Blur(a), plain.cna(a, b)),
    "unshuffle": lambda a, b: nn.Sequential(nn.PixelUnshuffle(2), plain.cna(4 * a, b, 1)),
    "slice": Slice,
    "interpolate": Halve,
    "merging": PatchMerging,
    "parallel": Parallel,
    "adaptive": lambda a, b: nn.Sequential(nn.AdaptiveMaxPool2d(8), plain.cna(a, b)),
    "one axis": lambda a, b: nn.Conv2d(a, b, 3, (2, 1), 1),
    "by four": lambda a, b: plain.cna(a, b, 5, 4),
    "by three": lambda a, b: plain.cna(a, b, 3, 3),
}


class Branched(nn.Module):
    """A stem of two ways."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.left, self.right = plain.cna(channels, width, 3, 2), plain.cna(channels, width, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(self.left(x), self.right(x))


class Preprocessed(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = plain.cna(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - 0.5) / 0.25)


STEMS: dict[str, Down] = {
    "plain": lambda c, w: plain.cna(c, w),
    "bare": lambda c, w: nn.Conv2d(c, w, 3, padding=1),
    "strided": lambda c, w: plain.cna(c, w, 7, 2),
    "pooled": lambda c, w: nn.Sequential(plain.cna(c, w, 3, 2), nn.MaxPool2d(3, 2, 1)),
    "deep": lambda c, w: nn.Sequential(plain.cna(c, w, 3, 2), plain.cna(w, w), plain.cna(w, w)),
    "patchify": lambda c, w: nn.Sequential(nn.Conv2d(c, w, 4, 4), nn.GroupNorm(1, w)),
    "unshuffle": lambda c, w: nn.Sequential(nn.PixelUnshuffle(2), plain.cna(4 * c, w)),
    "branched": Branched,
    "coordinates": odd.CoordinateConv,
    "preprocessed": Preprocessed,
}


class Pool(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.function, self.fc = function, nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.function(x))
        return out


class Several(nn.Module):
    """Logits among other outputs."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Any:
        pooled = x.mean((2, 3))
        logits = self.fc(pooled)
        return {"logits": logits, "features": pooled} if self.kind == "dict" else (logits, pooled)


HEADS: dict[str, Block] = {
    "average": plain.Classifier,
    "mean": lambda w: Pool(lambda x: x.mean((2, 3)), w),
    "max": lambda w: Pool(lambda x: x.amax((2, 3)), w),
    "both": lambda w: Pool(lambda x: x.mean((2, 3)) + x.flatten(2).max(-1)[0], w),
    "norm": lambda w: nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), plain.Classifier(w)),
    "mlp": heads.MLPHead,
    "cosine": heads.CosineHead,
    "attention": heads.PlainAttentionPool,
    "convolution": lambda w: nn.Sequential(
        nn.Conv2d(w, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "flatten": lambda w: nn.Sequential(nn.Flatten(), nn.LazyLinear(7)),
    "pool and flatten": lambda w: nn.Sequential(
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * w, 7)
    ),
    "dict": lambda w: Several(w, "dict"),
    "tuple": lambda w: Several(w, "tuple"),
}
