"""What a fourth batch of repositories that no one here had opened showed: a tiny network each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, Beside, Net, blocks, convert, pooled
from tests.transform.plain import unit


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


class SubSpectralNorm(nn.Module):
    """Groups of rows have a norm each: they are folded into the channels for it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        y: Tensor = self.norm(x.view(n, c * 2, h // 2, w)).view(n, c, h, w)
        return y


def test_rows_that_are_folded_into_channels_and_back() -> None:
    for arrangement in ("td", "uniform", "reversed"):
        td = convert(blocks(SubSpectralNorm), arrangement=arrangement)
        assert [level.strides for level in td.plan.levels] == [(4, 4), (2, 2), (1, 1)]
        check_network(td, torch.rand(2, *SIZE), classes=7)


class StylePooling(nn.Module):
    """A convolution over two statistics of each channel: no axis of the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        flat = x.reshape(n, c, -1)
        styles = torch.stack((flat.mean(-1), flat.std(-1)), -1)
        y: Tensor = x * self.conv(styles).sigmoid().reshape(n, c, 1, 1)
        return y


class Gate(nn.Module):
    """A block is weighed by what two strided layers make of its map, as large as they take it for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(width, width, 3, 2, 1), nn.AvgPool2d(64 // width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.out(self.pool(self.conv(x))).sigmoid().flatten(1)
        return x * weight[:, :, None, None]


@pytest.mark.parametrize("beside", [StylePooling, Gate])
def test_what_a_block_borrows_is_what_it_is_there(beside: Callable[[int], nn.Module]) -> None:
    """The coarsest level's first block has its sibling's layers: those over another axis than the
    map's stay, and those that step where the block itself doesn't."""
    net = Net(pooled, last=16)
    net.body = nn.Sequential(
        unit(3, 4, 1),
        *(Beside(4, 4, 1, beside(4)) for _ in range(2)),
        *(Beside(8 if i else 4, 8, 2 - i, beside(8)) for i in range(2)),
        *(Beside(16 if i else 8, 16, 2 - i, beside(16)) for i in range(2)),
    )
    td = convert(net)
    td(torch.rand(2, *SIZE)).square().mean().backward()
    assert all(p.grad is not None for p in td.parameters())


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
