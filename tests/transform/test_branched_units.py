"""Units in branches that training alone has (MobileOne, RepVGG): they are taken for what they become."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from td_transform import plan_topdown, to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE, Beside

Arrangement = Literal["td", "reversed", "uniform"]


class Merged(nn.Module):
    """What a unit in branches becomes."""

    def __init__(
        self, width_in: int, width: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(x))
        return out


class Branched(Merged):
    """A convolution, a 1x1 convolution and, where the shape stays, a norm."""

    def __init__(
        self, width_in: int, width: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__(width_in, width, kernel, stride, groups)
        self.scale = nn.Conv2d(width_in, width, 1, stride, groups=groups)
        same = width_in == width and stride == 1
        self.skip = nn.BatchNorm2d(width) if same else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) + self.scale(x)
        out: Tensor = self.act(y if self.skip is None else y + self.skip(x))
        return out


class Separable(nn.Module):
    """Stages of depthwise and pointwise units in turn; the first one alone is no part of them."""

    def __init__(self, unit: type[Merged]) -> None:
        super().__init__()
        self.first = unit(3, 8, 3, 2)
        steps = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1)]
        body = [[unit(i, i, 3, s, i), unit(i, o, 1, 1)] for i, o, s in steps]
        self.body = nn.Sequential(*(u for units in body for u in units))
        self.fc = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.body(self.first(x)).mean((2, 3)))
        return out


def shape(model: nn.Module, arrangement: Arrangement) -> list[tuple[int, int, int]]:
    plan = plan_topdown(model, input_size=SIZE, arrangement=arrangement, output_stride=2)
    return [(level.stride, level.width, len(level.stage)) for level in plan.levels]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arrangement", ["td", "reversed", "uniform"])
def test_branches_are_turned_as_what_they_become(arrangement: Arrangement) -> None:
    assert shape(Separable(Branched), arrangement) == shape(Separable(Merged), arrangement)
    td = to_topdown(Separable(Branched), input_size=SIZE, arrangement=arrangement, output_stride=2)
    check_network(td, torch.rand(2, *SIZE))


class Plain(nn.Module):
    """RepVGG: full kernels, the first one before the stages; nothing holds these."""

    def __init__(self, unit: type[Merged]) -> None:
        super().__init__()
        self.first = unit(3, 8, 3, 2)
        self.second = nn.Sequential(unit(8, 16, 3, 2), unit(16, 16, 3, 1))
        self.third = nn.Sequential(unit(16, 32, 3, 2), unit(32, 32, 3, 1))
        self.fc = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.third(self.second(self.first(x))).mean((2, 3)))
        return out


def test_a_unit_in_branches_alone_at_its_resolution_is_a_stem() -> None:
    plan = plan_topdown(Plain(Branched), input_size=SIZE, output_stride=4)
    assert [(level.stride, level.width) for level in plan.levels] == [(8, 32), (4, 16)]


class Narrow(nn.Module):
    """LCNetV2: a depthwise unit, one that narrows, one that widens again."""

    def __init__(self, unit: type[Merged], width: int, out: int, s: int) -> None:
        super().__init__()
        self.depthwise = unit(width, width, 3, s, width)
        self.narrow = nn.Sequential(nn.Conv2d(width, out // 2, 1), nn.ReLU())
        self.widen = nn.Sequential(nn.Conv2d(out // 2, out, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.widen(self.narrow(self.depthwise(x)))
        return out


@pytest.mark.parametrize("unit", [Branched, Merged])
def test_what_ends_a_block_is_not_the_next_ones_expansion(
    unit: type[Merged],
) -> None:
    steps = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1)]
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(),
        nn.Sequential(*(Narrow(unit, i, o, s) for i, o, s in steps)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip
    assert shape(model, "td") == [(8, 32, 2), (4, 16, 1), (2, 8, 0)]


class Drawn(nn.Module):
    """A convolution whose weights are drawn anew for each image (Flipout)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.spread = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        sign = torch.rand_like(x[:, :, :1, :1]).sub(0.5).sign()
        y: Tensor = self.mean(x) + self.spread(x * sign)
        return y


def test_the_norm_behind_a_stem_that_branches_is_the_stems() -> None:
    blocks = [Beside(*sizes, nn.Identity()) for sizes in ((8, 8, 1), (8, 16, 2), (16, 32, 2))]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)]
    model = nn.Sequential(Drawn(3, 8), nn.BatchNorm2d(8), nn.ReLU(), *blocks, *head)
    td = to_topdown(model, input_size=(3, 16, 16))
    for number in range(3):
        lift = td.get_submodule(f"levels.{number}.lift")
        assert isinstance(lift.norm, nn.BatchNorm2d)
        assert isinstance(lift.activation, nn.ReLU)
