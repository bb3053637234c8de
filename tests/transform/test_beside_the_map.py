"""Layers within blocks that work on something else than the map's own axes and resolution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, Beside, Net, blocks, convert, pooled
from tests.transform.plain import unit


class SubSpectralNorm(nn.Module):
    """Groups of rows have a norm each: they are folded into the channels for it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        y: Tensor = self.norm(x.view(n, c * 2, h // 2, w)).view(n, c, h, w)
        return y


def test_rows_that_are_folded_into_channels_and_back() -> None:
    for arrangement in ("td", "uniform", "reversed"):
        td = convert(blocks(SubSpectralNorm), arrangement=arrangement)
        assert [level.strides for level in td.plan.levels] == [(4, 4), (2, 2), (1, 1)]
        check_network(td, torch.rand(2, *SIZE), classes=7)


class StylePooling(nn.Module):
    """A convolution over two statistics of each channel: no axis of the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        flat = x.reshape(n, c, -1)
        styles = torch.stack((flat.mean(-1), flat.std(-1)), -1)
        y: Tensor = x * self.conv(styles).sigmoid().reshape(n, c, 1, 1)
        return y


class Gate(nn.Module):
    """A block is weighed by what two strided layers make of its map, as large as they take it for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(width, width, 3, 2, 1), nn.AvgPool2d(64 // width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.out(self.pool(self.conv(x))).sigmoid().flatten(1)
        return x * weight[:, :, None, None]


@pytest.mark.parametrize("beside", [StylePooling, Gate])
def test_what_a_block_borrows_is_what_it_is_there(beside: Callable[[int], nn.Module]) -> None:
    """The coarsest level's first block has its sibling's layers: those over another axis than the
    map's stay, and those that step where the block itself doesn't."""
    net = Net(pooled, last=16)
    net.body = nn.Sequential(
        unit(3, 4, 1),
        *(Beside(4, 4, 1, beside(4)) for _ in range(2)),
        *(Beside(8 if i else 4, 8, 2 - i, beside(8)) for i in range(2)),
        *(Beside(16 if i else 8, 16, 2 - i, beside(16)) for i in range(2)),
    )
    td = convert(net)
    td(torch.rand(2, *SIZE)).square().mean().backward()
    assert all(p.grad is not None for p in td.parameters())
