"""Parameters that are no weights of a single layer: integers, kernels of functions, a list of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, Net, convert, pooled
from tests.transform.plain import Network


class Fused(nn.Module):
    """A layer for a microcontroller: how many bits it has is a parameter that doesn't train, and its
    kernel is scaled by ones where the images are."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.op = layer
        self.bits = nn.Parameter(torch.tensor([8]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.op.weight * torch.ones(1, device=x.device) * self.bits / 8
        if isinstance(self.op, nn.Linear):
            return nn.functional.linear(x, weight, self.op.bias)
        return torch.conv2d(x, weight, self.op.bias, self.op.stride, self.op.padding)


def fused_unit(width_in: int, width: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(width_in, width, 3, stride, 1)
    return nn.Sequential(Fused(conv), nn.BatchNorm2d(width, affine=False), nn.ReLU())


def test_layers_with_parameters_of_integers() -> None:
    net = Net(lambda n, x: n.fc(x.mean((2, 3))), fused_unit)
    net.fc = Fused(nn.Linear(32, 7))  # type: ignore[assignment]
    td = convert(net)
    assert td.plan.warnings == ()  # the last layer is a classifier
    td(torch.rand(2, *SIZE)).square().mean().backward()
    assert all((p.grad is not None) == p.requires_grad for p in td.parameters())
    bits = [p for name, p in td.named_parameters() if name.endswith("bits")]
    assert {p.dtype for p in bits} == {torch.int64}
    assert {p.item() for p in bits} == {8}


def test_units_of_functions_have_a_bias_where_it_is_no_keyword() -> None:
    td = convert(Net(pooled, fused_unit))
    units = [m.conv for name, m in td.named_modules() if name.endswith(("lift", "unit"))]
    assert units
    assert all(conv.bias is not None for conv in units)


class OfLists(nn.Module):
    """A network as a list of parameters, which its `parameters` hands out (MAML's inner loop)."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(8, 3, 3, 3), (8,), (16, 8, 3, 3), (16,), (7, 16), (7,)]
        self.vars = nn.ParameterList([nn.Parameter(torch.randn(*shape)) for shape in shapes])

    def forward(self, x: Tensor, vars: nn.ParameterList | None = None) -> Tensor:
        w = self.vars if vars is None else vars
        for i in (0, 2):
            x = nn.functional.conv2d(x, w[i], w[i + 1], stride=2, padding=1).relu()
        logits: Tensor = nn.functional.linear(x.mean((2, 3)), w[4], w[5])
        return logits

    def parameters(self, recurse: bool = True) -> Any:
        return self.vars


@pytest.mark.parametrize(
    ("arrangement", "coarsest"), [("td", 16), ("uniform", 12), ("reversed", 8)]
)
def test_a_model_that_calls_something_else_its_parameters(arrangement: str, coarsest: int) -> None:
    td = convert(OfLists(), arrangement=arrangement)
    check_network(td, torch.rand(2, *SIZE), classes=7)
    assert td.plan.levels[0].width == coarsest


class Quantised(nn.Module):
    """Every position's channels become the nearest row of a table, whose weight is read first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(10, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(1, -1)
        nearest = (rows.unsqueeze(-2) - self.table.weight).square().sum(-1).argmin(-1)
        return self.table(nearest).movedim(-1, 1)


class Regularised(nn.Module):
    """A convolution that is scaled by the size of its own kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        scale = 1 + self.conv.weight.square().mean()
        return self.conv(x) / scale


@pytest.mark.parametrize("block", [Quantised, Regularised])
def test_layers_whose_weights_are_read_before_they_are_called(block: type[nn.Module]) -> None:
    td = convert(Network(block))
    check_network(td, torch.rand(2, *SIZE), classes=7)
