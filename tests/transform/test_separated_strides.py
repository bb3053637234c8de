"""Kernels taken apart (MicroNet): a column and a row that step one after the other."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from td_transform import plan_topdown, to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE
from tests.transform.oddities import unit


def column(width_in: int, width: int, groups: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(width_in, width, (3, 1), (stride, 1), (1, 0), groups=groups)
    return [conv, nn.BatchNorm2d(width)]


def row(width_in: int, width: int, groups: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(width_in, width, (1, 3), (1, stride), (0, 1), groups=groups)
    return [conv, nn.BatchNorm2d(width)]


def block(width_in: int, width: int, stride: int) -> nn.Module:
    """A depthwise kernel in two parts, and a projection."""
    inside = 2 * width_in
    return nn.Sequential(
        *column(width_in, inside, width_in, stride), *row(inside, inside, inside, stride),
        nn.ReLU(), nn.Conv2d(inside, width, 1), nn.BatchNorm2d(width),
    )  # fmt: skip


def network() -> nn.Module:
    stem = nn.Sequential(*column(3, 4, 1, 2), *row(4, 8, 4, 2), nn.ReLU())
    body = [block(8, 8, 1), block(8, 16, 2), block(16, 16, 1), block(16, 32, 2), block(32, 32, 1)]
    return nn.Sequential(stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("arrangement", "widths"),
    [("td", [32, 16, 8]), ("reversed", [8, 16, 32]), ("uniform", [16, 16, 16])],
)
def test_a_column_and_a_row_are_one_change_of_resolution(
    arrangement: Literal["td", "reversed", "uniform"], widths: list[int]
) -> None:
    td = to_topdown(network(), input_size=SIZE, arrangement=arrangement, output_stride=2)
    levels = [(level.strides, level.width) for level in td.plan.levels]
    assert levels == list(zip([(8, 8), (4, 4), (2, 2)], widths, strict=True))
    check_network(td, torch.rand(2, *SIZE))


def test_full_kernels_that_step_along_one_axis_are_stages_of_their_own() -> None:
    model = nn.Sequential(
        unit(3, 8), *column(8, 16, 1, 2), nn.ReLU(), *row(16, 16, 1, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
    )  # fmt: skip
    plan = plan_topdown(model, input_size=SIZE)
    assert [level.strides for level in plan.levels] == [(2, 2), (2, 1), (1, 1)]
