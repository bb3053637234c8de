"""What the transformation can't know, a user says: stages by their modules, levels to skip."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import Plan, TopDownError, TopDownNetwork, plan_topdown, to_topdown
from tests.networks import Classifier, Residual, cna, dense
from tests.properties import check_network

SIZE = (3, 32, 32)


class Staged(nn.Module):
    """A stem, three stages by name, a pooling between the first two, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cna(3, 8)
        self.one = nn.Sequential(Residual(8, 8), Residual(8, 8))
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.1))
        self.two = nn.Sequential(Residual(8, 16), Residual(16, 16))
        self.down = cna(16, 24, 3, 2)
        self.three = nn.Sequential(Residual(24, 24))
        self.head = Classifier(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.one(self.stem(x)))
        return self.head(self.three(self.down(self.two(x))))


def planned(model: nn.Module, **options: Any) -> Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plan_topdown(model, input_size=SIZE, **options)


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(model, input_size=SIZE, **options)


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        (Staged(), ["one", "two", "three"]),
        (dense(), ["1", "3", "5"]),
    ],
)
def test_stages_by_name_are_those_that_are_found(model: nn.Module, stages: list[str]) -> None:
    named, found = planned(model, stages=stages), planned(model)
    assert named.levels == found.levels
    assert named.head == found.head


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize(
    ("stages", "strides"), [(["two", "three"], [2, 1]), (["one", "three"], [4, 1])]
)
def test_other_stages_than_those_found(
    stages: list[str], strides: list[int], arrangement: str
) -> None:
    """The first stage goes into the stem; two stages become one, whose pooling goes."""
    td = convert(Staged(), stages=stages, arrangement=arrangement, output_stride=1)
    finest = td.plan.levels[-1].stride
    assert [level.stride // finest for level in td.plan.levels if level.made_from] == strides
    assert any("Dropout" in layer.operator for layer in td.plan.layers) == (stages[0] == "one")
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        (["one"], "argument 'stages': 1 stage; expected two or more stages"),
        (["one", "tow"], "'tow', which the model does not have; .*perhaps you mean 'two'"),
        (["one", "head"], "'head', in which no unit or block of the trunk lies"),
        (["one", "pool"], "'pool', in which no unit or block of the trunk lies"),
        (["two", "one"], "'one', which does not come after 'two'; .*in the order in which"),
        (["one", "two.0.body.1", "three"], "begins inside a block; .*Remedy: name 'two.0'"),
        (["one", "two", "two.1", "three"], "'two.1' at stride 2, behind 'two' at stride 2; .*leave"),
    ],
)  # fmt: skip
def test_stages_that_are_none(stages: list[str], text: str) -> None:
    with pytest.raises(TopDownError, match=text):
        planned(Staged(), stages=stages)
