"""Slices of channels by numbers and by other tensors' widths: once-for-all, BiFormer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE, blocks
from tests.transform.plain import unit


class Elastic(nn.Module):
    """A convolution whose kernel is cut to the channels that come; in groups, to more than it has."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.width = stride, width
        self.conv = nn.Conv2d(width_in, width, 3, bias=False)
        self.each = nn.Conv2d(width, width, 5, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.conv.weight[: self.width, : x.size(1), :, :].contiguous()
        x = F.conv2d(x, kernel, None, self.stride, 1)
        middle = self.each.weight[: x.size(1), : x.size(1), 1:4, 1:4]
        return F.relu(self.norm(F.conv2d(x, middle, None, 1, 1, 1, x.size(1))))


class Residual(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = Elastic(width_in, width, stride)
        self.down = unit(width_in, width, stride) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x) + self.down(x)
        return y


class Parted(nn.Module):
    """Channels last, a part of them taken behind an ellipsis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x.permute(0, 2, 3, 1))
        first, rest = y[..., : self.width], y[..., self.width :]
        last = rest[..., 0 : self.width, None][..., 0]
        return x + (first.sigmoid() * last).permute(0, 3, 1, 2)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_kernel_is_cut_to_the_channels_that_come(arrangement: Any) -> None:
    body = [Residual(8, 16), Residual(16, 16), Residual(16, 32, 2), Residual(32, 32)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)]
    model = nn.Sequential(unit(3, 8), *body, *head)
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_part_behind_an_ellipsis_is_written_at_every_width(arrangement: Any) -> None:
    td = to_topdown(blocks(Parted), input_size=SIZE, arrangement=arrangement)
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Planar(nn.Module):
    """ACSConv: the rows of a kernel in three parts, each for a view of its own."""

    def __init__(self, width_in: int, width: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width_in, kernel, kernel))
        self.first, self.second = width // 4, width // 2
        self.stride, self.padding = stride, (kernel - stride) // 2

    def forward(self, x: Tensor) -> Tensor:
        both = self.first + self.second
        rows = self.weight[0 : self.first], self.weight[self.first : both], self.weight[both:]
        return torch.cat([F.conv2d(x, r, None, self.stride, self.padding) for r in rows], 1)


class Added(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = Planar(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_three_parts_of_a_kernel_are_cut_in_proportion(arrangement: Any) -> None:
    first, second, third = ([Added(width), Added(width)] for width in (8, 16, 32))
    body = [*first, Planar(8, 16, 2, 2), *second, Planar(16, 32, 2, 2), *third]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)]
    td = to_topdown(
        nn.Sequential(unit(3, 8), *body, *head), input_size=SIZE, arrangement=arrangement
    )
    check_network(td, torch.rand(2, *SIZE), classes=7)
