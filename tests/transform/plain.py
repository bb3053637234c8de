"""The plain parts that tiny networks are made of: a unit, a block, three stages with a head."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor, nn


def unit(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """A block around anything that keeps a map's shape."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Network(nn.Module):
    """Three stages of a unit that downsamples and of a block, and a head."""

    def __init__(
        self,
        block: Callable[[int], nn.Module] = lambda width: unit(width, width),
        head: nn.Module | None = None,
        widths: tuple[int, int, int] = (8, 16, 32),
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = unit(channels, widths[0])
        stages: list[nn.Module] = [Residual(block(widths[0]))]
        for before, width in itertools.pairwise(widths):
            stages += [unit(before, width, 2), Residual(block(width))]
        self.stages = nn.Sequential(*stages)
        self.head = head or nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 7)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


class Function(nn.Module):
    """A convolution, then a function of its map."""

    def __init__(self, width: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def in_a_chain(block: Callable[[int], nn.Module]) -> nn.Module:
    """With nothing beside it, so that its own tensors are the trunk's."""
    network = Network()
    network.stages = nn.Sequential(
        unit(8, 8), block(8), unit(8, 16, 2), block(16), unit(16, 16), unit(16, 32, 2), block(32)
    )
    return network
