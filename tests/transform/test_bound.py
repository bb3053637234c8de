"""What is bound to a resolution stays with it when the stages keep their bottom-up order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from td_transform import Plan, plan_topdown, to_topdown
from td_transform.analyse import analyse
from td_transform.errors import ConversionError, UnknownOperatorError
from td_transform.plan import SegmentPlan
from td_transform.plan.depth import at_depth_of
from td_transform.trace import trace

SIZE = (3, 24, 24)
WIDTHS, SIDES, DEPTHS = (8, 16, 32), (24, 12, 6), (1, 1, 2)
WINDOW = 6


class TableOfPositions(nn.Module):
    """Attention with a bias for every pair of positions."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.bias = nn.Parameter(torch.zeros(2, side**2, side**2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(x.shape[0], 3, 2, -1, x.shape[2] * x.shape[3]).unbind(1)
        weights = (q.transpose(-2, -1) @ k + self.bias).softmax(-1)
        y = v @ weights.transpose(-2, -1)
        return x + self.proj(y.reshape(x.shape))


class ShiftedWindows(nn.Module):
    """Attention in windows that lie across the border, with a mask for each window."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("mask", torch.zeros((side // WINDOW) ** 2, WINDOW**2, WINDOW**2))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.roll(x.permute(0, 2, 3, 1), (3, 3), (1, 2))
        y = y.view(n, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
        q, k, v = self.qkv(y.reshape(-1, WINDOW**2, c)).chunk(3, -1)
        weights = (q @ k.transpose(-2, -1)).view(-1, *self.mask.shape) + self.mask
        y = self.proj(weights.view(-1, WINDOW**2, WINDOW**2).softmax(-1) @ v)
        y = y.view(n, h // WINDOW, w // WINDOW, WINDOW, WINDOW, c).transpose(2, 3)
        return x + torch.roll(y.reshape(n, h, w, c), (-3, -3), (1, 2)).permute(0, 3, 1, 2)


class PositionEmbedding(nn.Module):
    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, width, side, side))
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x + self.positions)


class SpatialReduction(nn.Module):
    """Attention to a map that a convolution brings down to 2 x 2 positions."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, width, side // 2, stride=side // 2)
        self.key, self.proj = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(self.reduce(x)).flatten(2)
        weights = (x.flatten(2).transpose(1, 2) @ key).softmax(-1)
        return x + self.proj((key @ weights.transpose(1, 2)).view(x.shape))


class Unregistered(PositionEmbedding):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(torch.special.i0(x + self.positions))


class Plain(nn.Module):
    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


Make = Callable[[int, int], nn.Module]


def network(make: Make) -> nn.Module:
    parts: list[nn.Module] = []
    before, stride = SIZE[0], 1
    for width, side, depth in zip(WIDTHS, SIDES, DEPTHS, strict=True):
        down = nn.Conv2d(before, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()
        parts += [nn.Sequential(*down), *(make(width, side) for _ in range(depth))]
        before, stride = width, 2
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def blocks(plan: Plan) -> list[int]:
    """How many copies of blocks each level has."""
    kinds = [[p for p in level.stage if isinstance(p, SegmentPlan)] for level in plan.levels]
    return [sum(len(p.nodes) > 1 for p in parts) for parts in kinds]


@pytest.mark.parametrize(
    ("make", "made_from", "bound"),
    [
        (TableOfPositions, [3, 2, 1], [0, 2]),
        # the mask of a single window fits many
        (ShiftedWindows, [3, 2, 3], [0]),
        (PositionEmbedding, [3, 2, 1], [0, 2]),
        # larger maps than its own a reduction can do with, smaller ones not
        (SpatialReduction, [3, 2, 3], [0]),
        (Plain, [1, 2, 3], []),
    ],
)
def test_a_level_whose_blocks_do_not_run_has_those_of_its_resolution(
    make: Make, made_from: list[int], bound: list[int]
) -> None:
    td = to_topdown(network(make), input_size=SIZE, arrangement="reversed")
    assert [level.made_from for level in td.plan.levels] == made_from
    assert [level.width for level in td.plan.levels] == list(WIDTHS)
    assert blocks(td.plan) == list(DEPTHS)
    said = [line for line in str(td.plan).splitlines() if line.startswith("bound: ")]
    assert [int(line.split()[2]) for line in said] == bound
    assert all("test_bound.py:" in line for line in said), "the line of code that is bound"
    td(torch.rand(2, *SIZE)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in td.parameters())


def test_a_bound_plan_survives_as_text_and_weights_keep_apart() -> None:
    td = to_topdown(network(PositionEmbedding), input_size=SIZE, arrangement="reversed")
    assert Plan.from_json(td.plan.to_json()) == td.plan
    names = [name for name, _ in td.named_parameters() if name.endswith("positions")]
    assert len(names) == sum(DEPTHS), "a block that is repeated has parameters of its own"


def test_a_bound_block_whose_width_is_pinned_is_a_typed_error() -> None:
    with pytest.raises(UnknownOperatorError, match="the operator special_i0"):
        plan_topdown(network(Unregistered), input_size=SIZE, arrangement="reversed")


def test_at_resolutions_that_no_stage_had_the_error_says_so() -> None:
    with pytest.raises(ConversionError, match="pass output_stride=1"):
        plan_topdown(
            network(PositionEmbedding), input_size=SIZE, arrangement="reversed", output_stride=2
        )


def test_a_stage_at_another_depth_keeps_what_it_has_least_of() -> None:
    def unit(width_in: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width_in, 8, 3, stride, 1), nn.BatchNorm2d(8), nn.ReLU())

    fine = [unit(3, 1), Plain(8, 12)]
    coarse = [unit(8, 2), *(Plain(8, 6) for _ in range(3)), PositionEmbedding(8, 6)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    bottom_up = analyse(trace(nn.Sequential(*fine, *coarse, *head), (3, 12, 12)))
    one, four = bottom_up.stages

    def modules(rest: int) -> list[str]:
        deep = at_depth_of(bottom_up.trunk, four, replace(one, rest=one.segments * rest))
        targets = [[str(n.target) for n in s.nodes if n.op == "call_module"] for s in deep.rest]
        return [inside[-1].partition(".")[0] for inside in targets]

    assert modules(1) == ["3", "6"], "a plain block and the one with positions"
    assert modules(3) == ["3", "4", "5", "6"]
    assert modules(5) == ["3", "4", "5", "6", "3", "4"]


class Deviation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + x.std((2, 3), keepdim=True))


@pytest.mark.parametrize(("side", "bound"), [(4, 1), (8, 0)])
def test_a_deviation_over_a_single_position_is_no_number(side: int, bound: int) -> None:
    """A shape can't tell: the level came out, and every logit was nan."""
    widths, layers = (3, 8, 16, 32), list[nn.Module]()
    for stride, (width_in, width) in enumerate(pairwise(widths), start=1):
        layers += [
            nn.Conv2d(width_in, width, 3, min(stride, 2), 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        layers += [Deviation(), nn.Conv2d(width, width, 3, 1, 1)] if stride == 1 else []
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)
    td = to_topdown(
        nn.Sequential(*layers, *head), input_size=(3, side, side), arrangement="reversed"
    )
    assert len(td.plan.bound) == bound
    assert td(torch.rand(2, 3, side, side)).isfinite().all()
