"""Slices that count from the end (HBONet): as many stay the last ones at every width."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import TopDownNetwork, to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE
from tests.transform.oddities import unit


class Harmonious(nn.Module):
    """Half of the output are the last channels of the input, half the first ones with something added."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv, self.half, self.stride = unit(width_in, width // 2, stride), width // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        last, first = x[:, -self.half :], x[:, : self.half]
        if self.stride == 2:
            last, first = F.avg_pool2d(last, 2), F.avg_pool2d(first, 2)
        return torch.cat([last, first + self.conv(x)], 1)


class WithoutLast(nn.Module):
    """A block over all channels but the last four, which are kept."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.down = unit(width_in, width, stride)
        self.conv = nn.Conv2d(width - 4, width - 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return torch.cat([self.conv(x[:, :-4]), x[:, -4:]], 1)


def network(block: type[nn.Module], widths: list[int]) -> nn.Module:
    first, *rest = widths
    body = []
    for width_in, width in zip(widths, rest, strict=False):
        body += [block(width_in, width, 2), block(width, width, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 7)]
    return nn.Sequential(unit(3, first), block(first, first, 1), *body, *head)


def widths_of(td: TopDownNetwork) -> list[int]:
    return [level.width for level in td.plan.levels]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", [Harmonious, WithoutLast])
@pytest.mark.parametrize(
    ("arrangement", "widths"),
    [("td", [32, 16, 8]), ("reversed", [8, 16, 32]), ("uniform", [16, 16, 16])],
)
def test_the_last_channels_are_the_last_at_every_width(
    block: type[nn.Module], arrangement: Literal["td", "reversed", "uniform"], widths: list[int]
) -> None:
    td = to_topdown(network(block, [8, 16, 32]), input_size=SIZE, arrangement=arrangement)
    assert widths_of(td) == widths
    check_network(td, torch.rand(2, *SIZE))
