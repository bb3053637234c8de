"""Small networks on lines, pictures and volumes: one definition each, whatever the number of axes.

A network may get one axis more, along which it does nothing: every kernel and stride is 1 there. On
images of which one such slice is not empty, it computes what the network without that axis computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Space:
    """Where a network lives: so many axes, the first of them idle or not."""

    axes: int
    idle: bool = False

    def per_axis(self, value: int, idle: int = 1) -> tuple[int, ...]:
        """A kernel, stride or padding along every axis."""
        return (idle, *[value] * (self.axes - 1)) if self.idle else (value,) * self.axes

    def conv(self, width_in: int, width: int, kernel: int, stride: int = 1) -> nn.Module:
        kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.axes - 1]
        padding = self.per_axis(kernel // 2, 0)
        return kind(width_in, width, self.per_axis(kernel), self.per_axis(stride), padding)  # type: ignore[no-any-return]

    def norm(self, width: int) -> nn.Module:
        kind: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[self.axes - 1]
        return kind(width)  # type: ignore[no-any-return]

    def max_pool(self) -> nn.Module:
        kind: Any = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[self.axes - 1]
        return kind(self.per_axis(2), self.per_axis(2))  # type: ignore[no-any-return]

    def global_pool(self) -> nn.Module:
        kinds = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
        kind: Any = kinds[self.axes - 1]
        return kind(1)  # type: ignore[no-any-return]

    def size(self, side: int, channels: int = 2) -> tuple[int, ...]:
        return (channels, *self.per_axis(side))


def chain(space: Space) -> nn.Module:
    """Units with poolings between them."""
    layers: list[nn.Module] = []
    width_in = 2
    for width in (4, 6, 8):
        layers += [
            space.conv(width_in, width, 5 if width == 4 else 3),
            space.norm(width),
            nn.ReLU(),
        ]
        layers += [space.max_pool()] if width < 8 else []
        width_in = width
    return nn.Sequential(*layers, space.global_pool(), nn.Flatten(), nn.Linear(8, 3))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, space: Space, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = space.conv(width_in, width, 3, stride), space.norm(width)
        self.conv2, self.norm2 = space.conv(width, width, 3), space.norm(width)
        self.shortcut = space.conv(width_in, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def residual(space: Space) -> nn.Module:
    """A stem that downsamples, and two stages of two blocks."""
    blocks = [Block(space, 4, 4, 1), Block(space, 4, 4, 1), Block(space, 4, 6, 2)]
    blocks.append(Block(space, 6, 6, 1))
    stem = [space.conv(2, 4, 5, 2), space.norm(4), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, space.global_pool(), nn.Flatten(), nn.Linear(6, 3))


class Dense(nn.Module):
    """Concatenations, a gate on pooled channels, functions in the place of modules, a flattening."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.stem = space.conv(2, 4, 3)
        self.fine = nn.ModuleList([space.conv(4, 4, 3), space.conv(8, 4, 3)])
        self.gate, self.narrow = space.conv(12, 12, 1), space.conv(12, 6, 1)
        self.coarse = nn.ModuleList([space.conv(6, 4, 3), space.conv(10, 4, 3)])
        self.fc = nn.Linear(14 * 4 ** len([s for s in space.size(8)[1:] if s > 1]), 3)

    def forward(self, x: Tensor) -> Tensor:
        index, pair = self.space.axes - 1, self.space.per_axis(2)
        average: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[index]  # type: ignore[assignment]
        adaptive: Callable[..., Tensor] = (
            F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
        )[index]  # fmt: skip
        x = F.relu(self.stem(x))
        for layer in self.fine:
            x = torch.cat([x, F.gelu(layer(x))], 1)
        x = x * torch.sigmoid(self.gate(adaptive(x, 1)))
        x = average(self.narrow(x), pair, pair)
        for layer in self.coarse:
            x = torch.cat([x, F.gelu(layer(x))], 1)
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[Space], nn.Module]] = {
    "chain": chain, "residual": residual, "dense": Dense,
}  # fmt: skip


def with_idle_axis(state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network for the one that has an idle axis: kernels lie in its middle slice."""
    result = {}
    for name, value in state.items():
        wanted = torch.zeros_like(like[name])
        if wanted.dim() == value.dim():
            wanted.copy_(value)
        else:
            wanted[:, :, wanted.shape[2] // 2] = value
        result[name] = wanted
    return result
