"""What is a block, and what is the head's or a stage of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, Net, convert
from tests.transform.plain import unit


class OverAll(nn.Module):
    """A residual block whose convolution and whose shortcut's pooling are as large as the map."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.conv, self.side = nn.Conv2d(width, width, side), side

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) + nn.functional.avg_pool2d(x, self.side, 1)
        return y


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_block_as_large_as_the_map_is_the_head_s(arrangement: str) -> None:
    net = Net(lambda n, x: n.fc(x.flatten(1)))
    net.body = nn.Sequential(*net.body, OverAll(32, 8))
    td = convert(net, arrangement=arrangement)
    assert [level.strides for level in td.plan.levels] == [(4, 4), (2, 2), (1, 1)]
    assert any(
        name.startswith("head") and p.shape[2:] == (8, 8) for name, p in td.named_parameters()
    )
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Flat(nn.Module):
    """A network without modules of its own but this one: units, poolings, a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.prep, self.conv1, self.conv2 = unit(3, 8, 1), unit(8, 16, 1), unit(16, 32, 1)
        self.res1, self.res2 = unit(16, 16, 1), unit(16, 16, 1)
        self.res3, self.fc = unit(32, 32, 1), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv1(self.prep(x)), 2)
        x = self.conv2(x + self.res2(self.res1(x)))
        x = nn.functional.max_pool2d(x, 2)
        logits: Tensor = self.fc((x + self.res3(x)).mean((2, 3)))
        return logits


def test_a_flat_network_is_no_block_inside_of_another_module() -> None:
    """Wrapped (behind a normalisation, say) it becomes what it becomes by itself."""
    alone, wrapped = (convert(net, output_stride=2) for net in (Flat(), nn.Sequential(Flat())))
    shapes = [[tuple(p.shape) for p in td.parameters()] for td in (alone, wrapped)]
    assert shapes[0] == shapes[1]
    assert [level.strides for level in wrapped.plan.levels] == [(4, 4), (2, 2)]
    check_network(wrapped, torch.rand(2, *SIZE), classes=7)
