"""Blocks that run several times, with layers that a forward changes on the way: CORnet-S."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE
from tests.transform.plain import unit


class Recurrent(nn.Module):
    """One convolution, run twice: the first time with a stride of 2."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width_in, width, 1, bias=False)
        self.skip = nn.Conv2d(width, width, 1, stride=2, bias=False)
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for turn, norm in enumerate(self.norms):
            skipped = x if turn else self.skip(x)
            self.conv.stride = (1, 1) if turn else (2, 2)
            x = torch.relu(norm(self.conv(x)) + skipped)
        return x


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_layer_whose_stride_the_forward_sets_has_the_one_of_each_call(arrangement: Any) -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7)]
    model = nn.Sequential(unit(3, 8), Recurrent(8, 8), Recurrent(8, 16), *head)
    before = {name: m.stride for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    td = to_topdown(model, input_size=SIZE, output_stride=2, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2]
    check_network(td, torch.rand(2, *SIZE), classes=7)
    kernels = [
        n for n, _ in td.named_parameters() if n.startswith("levels.1") and "conv.weight" in n
    ]
    assert len([name for name in kernels if "stage" in name]) == 1
    after = {name: m.stride for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert before == after


@pytest.mark.filterwarnings("ignore")
def test_the_coarsest_block_has_one_kernel_for_all_its_turns() -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7)]
    model = nn.Sequential(unit(3, 8, 2), Recurrent(8, 8), Recurrent(8, 16), *head)
    td = to_topdown(model, input_size=SIZE, output_stride=4)
    (stage,) = (level for level in td.plan.levels if level.made_from == 2)
    names = [name for name, _ in td.named_parameters() if name.startswith(f"{stage.path}.stage")]
    assert len([name for name in names if "conv.weight" in name]) == 1
    assert len([name for name in names if "norm" in name and "weight" in name]) == 2
    check_network(td, torch.rand(2, *SIZE), classes=7)
