"""Bodies of networks as people write them, which the tests put something into, and heads for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from td_transform import TopDownNetwork, to_topdown
from tests.transform.plain import unit

SIZE = (3, 32, 32)
Make = Callable[[int, int, int], nn.Module]
Function = Callable[["Net", Tensor], Any]


def chain(make: Make, widths: tuple[int, ...] = (8, 16, 32)) -> nn.Sequential:
    """Stages at strides 1, 2, 4, each of one unit that `make` makes."""
    first, *rest = widths
    body = [make(SIZE[0], first, 1)]
    for width_in, width in zip(widths, rest, strict=False):
        body.append(make(width_in, width, 2))
    return nn.Sequential(*body)


class Net(nn.Module):
    """A body of convolution units, and a head that is a function."""

    def __init__(self, head: Function, make: Make = unit, last: int = 32) -> None:
        super().__init__()
        self.body, self.head, self.fc = chain(make), head, nn.Linear(last, 7)
        self.attention = nn.Conv2d(last, 1, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self, self.body(x))


def pooled(net: Net, x: Tensor) -> Tensor:
    return net.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Beside(nn.Module):
    """A block with something beside its convolutions."""

    def __init__(self, width_in: int, width: int, stride: int, beside: nn.Module) -> None:
        super().__init__()
        self.conv, self.beside = unit(width_in, width, stride), beside
        self.down = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.beside(self.conv(x)) + self.down(x)
        return y


def blocks(beside: Callable[[int], nn.Module]) -> nn.Module:
    """A stem, and stages of blocks at strides 1, 2, 4."""
    body = [
        Beside(width_in, width, stride, beside(width))
        for width_in, width, stride in [
            (8, 8, 1),
            (8, 16, 2),
            (16, 16, 1),
            (16, 32, 2),
            (32, 32, 1),
        ]
    ]
    return nn.Sequential(unit(3, 8), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))


def trained(td: TopDownNetwork) -> None:
    """A training step reaches every parameter."""
    td(torch.rand(2, *SIZE)).pow(2).mean().backward()
    assert [n for n, p in td.named_parameters() if p.requires_grad and p.grad is None] == []


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return to_topdown(model, input_size=SIZE, **options)


class TokenBlock(nn.Module):
    """A class token and the map's positions look at each other; a head per 4 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, count, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, count, 3, c // 4, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).reshape(n, count, c))
