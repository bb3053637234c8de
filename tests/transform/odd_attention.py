"""Blocks that let positions of a map attend to each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalContext(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(width, 1, 1)
        self.transform = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mask = self.mask(x).view(n, 1, h * w).softmax(-1)
        context = (x.view(n, c, h * w) @ mask.transpose(1, 2)).view(n, c, 1, 1)
        return x + self.transform(context)


class NonLocal(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(width, width // 2, 1) for _ in range(3))
        self.out = nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        weights = torch.einsum("nci,ncj->nij", theta, phi).softmax(-1)
        y = torch.einsum("nij,ncj->nci", weights, g).view(n, -1, h, w)
        out: Tensor = self.out(y)
        return out


class MultiheadAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        out: Tensor = mixed.transpose(1, 2).reshape(n, c, h, w)
        return out


class HeadedAttention(nn.Module):
    """The numbers of heads and of their channels are integers of the module (MetaFormer)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads, self.channels, self.width = 2, width // 2, width
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        qkv = self.qkv(tokens).reshape(n, h * w, 3, self.heads, self.channels)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(mixed.reshape(n, h * w, self.width)).transpose(1, 2).view(n, c, h, w)


class BatchNormOfTokens(nn.Module):
    """All tokens in one dimension for their norm (LeViT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        return self.norm(tokens.flatten(0, 1)).reshape_as(tokens).transpose(1, 2).reshape_as(x)


class WindowAttention(nn.Module):
    """In windows of 4x4, with a table of biases by relative position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn(49, 2) / 10)
        rows, columns = (t.flatten() for t in torch.meshgrid(*2 * [torch.arange(4)], indexing="ij"))
        index = (rows[:, None] - rows + 3) * 7 + columns[:, None] - columns + 3
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(n, h // 4, 4, w // 4, 4, c).transpose(2, 3)
        tokens = x.reshape(-1, 16, c)
        q, k, v = self.qkv(tokens).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(16, 16, 2).permute(2, 0, 1)
        weights = (q @ k.transpose(-2, -1) + bias[None]).softmax(-1)
        tokens = self.out((weights @ v).transpose(1, 2).reshape(-1, 16, c))
        x = tokens.view(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)
        return x.permute(0, 3, 1, 2)


class Unfold(nn.Module):
    """A convolution written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(9 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        columns = F.unfold(x, 3, padding=1).transpose(1, 2)
        out: Tensor = self.linear(columns).transpose(1, 2).reshape(n, c, h, w)
        return out


class PositionEncoding(nn.Module):
    """A depthwise convolution of tokens laid out as a map (CPE)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.conv(tokens.transpose(1, 2).view(n, c, h, w)).flatten(2).transpose(
            1, 2
        )
        out: Tensor = self.linear(self.norm(tokens)).transpose(1, 2).reshape(n, c, h, w)
        return out
