"""Networks whose last convolution is as large as the map, behind inverted bottlenecks: MobileFaceNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE
from tests.transform.plain import unit


def separate(width: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """A depthwise unit."""
    conv = nn.Conv2d(width, width, kernel, stride, padding, groups=width, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.PReLU(width))


class Bottleneck(nn.Module):
    """An inverted one, four times as wide inside."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.added = width_in == width and stride == 1
        self.widen = nn.Sequential(nn.Conv2d(width_in, 4 * width_in, 1, bias=False), nn.ReLU())
        self.separate = separate(4 * width_in, stride=stride)
        self.narrow = nn.Conv2d(4 * width_in, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.separate(self.widen(x)))
        return x + y if self.added else y


def face_network(*head: nn.Module) -> nn.Sequential:
    """A stem of a plain and a depthwise unit, stages at strides 2 and 4, and an 8x8 map for the head."""
    body = [Bottleneck(8, 8, 2), Bottleneck(8, 8), Bottleneck(8, 16, 2), Bottleneck(16, 16)]
    return nn.Sequential(unit(3, 8), separate(8), *body, nn.Conv2d(16, 24, 1), nn.ReLU(), *head)


HEADS: dict[str, list[nn.Module]] = {
    "depthwise": [separate(24, 8, padding=0), nn.Flatten(), nn.Linear(24, 7)],
    "dense": [nn.Conv2d(24, 16, 8), nn.ReLU(), nn.Conv2d(16, 7, 1), nn.Flatten()],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("head", HEADS)
def test_a_kernel_as_large_as_the_map_is_a_head(head: str, arrangement: Any) -> None:
    model = face_network(*HEADS[head])
    td = to_topdown(model, input_size=SIZE, output_stride=2, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2]
    kernels = {m.kernel_size for m in td.levels.modules() if isinstance(m, nn.Conv2d)}
    assert (8, 8) not in kernels
    check_network(td, torch.rand(2, *SIZE), classes=7)


def test_a_head_of_that_kind_is_that_of_a_flattened_map() -> None:
    """It has the same levels, and as many parameters."""
    dense = [nn.Conv2d(24, 16, 8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 7)]
    flat = [nn.Flatten(), nn.Linear(24 * 64, 16), nn.ReLU(), nn.Linear(16, 7)]
    with pytest.warns(UserWarning, match="has a kernel as large as a 8x8 map"):
        one = to_topdown(face_network(*dense), input_size=SIZE, output_stride=2)
    with pytest.warns(UserWarning, match="flattens a 8x8 map"):
        other = to_topdown(face_network(*flat), input_size=SIZE, output_stride=2)
    assert one.plan.parameters == other.plan.parameters


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_features_behind_a_depthwise_head_are_as_many_as_before() -> None:
    """What sets their number, the 1x1 unit before it, is the classifier."""
    model = face_network(separate(24, 8, padding=0), nn.Flatten())
    td = to_topdown(model, input_size=SIZE, output_stride=2)
    check_network(td, torch.rand(2, *SIZE), classes=24)


def test_a_depthwise_unit_leaves_the_next_block_its_expansion() -> None:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 7)]
    td = to_topdown(face_network(*pooled), input_size=SIZE, output_stride=2)
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 24), (2, 8)]
    crossing = td.get_submodule("levels.1.stage.2")
    widths = [m.out_channels for m in crossing.modules() if isinstance(m, nn.Conv2d)]
    assert widths[1:] == [32, 8]


class Mixed(nn.Module):
    """MixNet: a layer of two kernels side by side, on a part of the channels each."""

    def __init__(self, width_in: int, width: int, kernels: tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.part = width_in // 2
        self.layers = nn.ModuleList(
            nn.Conv2d(width_in // 2, width // 2, k, padding=k // 2, **options) for k in kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.part, 1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], 1)


class MixedBottleneck(nn.Module):
    """An inverted one, all of whose layers branch."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        wide = 4 * width_in
        self.added = width_in == width and stride == 1
        self.widen = nn.Sequential(Mixed(width_in, wide, (1, 1)), nn.ReLU())
        self.each = nn.Sequential(
            Mixed(wide, wide, (3, 5), stride=stride, groups=wide // 2), nn.ReLU()
        )
        self.narrow = Mixed(wide, width, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.each(self.widen(x)))
        return x + y if self.added else y


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_bottleneck_whose_layers_branch_is_one_block(arrangement: Any) -> None:
    body = [MixedBottleneck(8, 8), MixedBottleneck(8, 16, 2), MixedBottleneck(16, 16)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7)]
    model = nn.Sequential(unit(3, 8), *body, *head)
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    widths = {"td": [16, 8], "uniform": [12, 12], "reversed": [8, 16]}
    assert [level.width for level in td.plan.levels] == widths[arrangement]
    check_network(td, torch.rand(2, *SIZE), classes=7)
