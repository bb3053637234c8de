"""Heads that are more than a pooling and a linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """CLIP's: a query, the mean of the map, attends to the map's positions."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(8 * 8 + 1, width) / width**0.5)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x], 0) + self.positions[:, None]
        q, k, v = self.q(x[:1]), self.k(x), self.v(x)
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
        logits: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return logits


class PlainAttentionPool(AttentionPool):
    """The same without positions, so that it takes a map of any size."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        mean = x.mean(1, keepdim=True) + self.positions[:1]
        q, k, v = self.q(mean), self.k(x), self.v(x)
        weights = (q @ k.transpose(1, 2)).softmax(-1)
        logits: Tensor = self.out((weights @ v)[:, 0]) + 0 * self.positions.sum()
        return logits


class BilinearHead(nn.Module):
    """Products of channels over all positions, whose number is asked of the map (iSQRT-COV)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
        logits: Tensor = self.fc((flat @ flat.transpose(1, 2)).mean(1))
        return logits


class MLPHead(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm, self.fc1, self.act = nn.LayerNorm(width), nn.Linear(width, 24), nn.GELU()
        self.bn, self.fc2 = nn.BatchNorm1d(24), nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc1(self.norm(x.mean((2, 3)))))
        logits: Tensor = self.fc2(self.bn(x))
        return logits


class CosineHead(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, width))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(x.mean((2, 3)), dim=1)
        return self.scale * F.linear(x, F.normalize(self.weight, dim=1))
