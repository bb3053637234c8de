"""Networks as other people write them: what once came out wrong without a word, or was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional

from td_transform import UnknownOperatorError, plan_topdown, to_topdown
from tests.transform.bodies import SIZE, Beside, Function, Make, Net, blocks, chain, pooled, trained
from tests.transform.plain import unit


class Kernel(nn.Module):
    """A convolution that is a function of a parameter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=1)


@pytest.mark.parametrize("weights", ["fresh", "inherit"])
def test_parameters_that_a_forward_reads_are_a_blocks_own(weights: str) -> None:
    """The first block of a level takes another's form, and not its parameters."""
    td = to_topdown(blocks(Kernel), input_size=SIZE, weights=weights)  # type: ignore[call-arg]
    kernels = [name for name, _ in td.named_parameters() if name.endswith("beside.weight")]
    read = [str(n.target) for n in td.graph.nodes if str(n.target).endswith("beside.weight")]
    assert len(kernels) == 5
    assert sorted(read) == sorted(kernels)
    assert td.plan.parameters == sum(p.numel() for p in td.parameters())
    trained(td)


class GeM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.clamp(min=1e-6).pow(self.p), x.shape[-2:]).pow(1 / self.p)


def test_a_module_called_pool_and_the_pooling_of_the_head_have_names_of_their_own() -> None:
    model = nn.Sequential()
    model.add_module("body", chain(unit))
    model.add_module("pool", GeM())
    model.add_module("end", nn.Sequential(nn.Flatten(), nn.Linear(32, 7)))
    td = to_topdown(model, input_size=SIZE)
    assert "head.pool.p" in dict(td.named_parameters())
    trained(td)


class Gated(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, 2 * width, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(x), 1)


class Maxout(Gated):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        n, c, h, w = y.shape
        return y.view(n, c // 2, 2, h, w).max(dim=2)[0]


class Unknown(Gated):
    def forward(self, x: Tensor) -> Tensor:
        return torch.i0(self.conv(x).relu()[:, ::2])


@pytest.mark.parametrize(
    ("make", "targets"),
    [(Gated, (F.glu,)), (Maxout, ("max",)), (Unknown, (torch.i0,))],
    ids=["gated", "maxout", "unknown"],
)
def test_the_coarsest_level_keeps_what_a_unit_has_behind_its_convolution(
    make: Make, targets: tuple[Any, ...]
) -> None:
    td = to_topdown(Net(pooled, make), input_size=SIZE)
    assert sum(n.target in targets for n in td.graph.nodes) == 3
    assert [level.width for level in td.plan.levels] == [32, 16, 8]
    trained(td)


def norm_last(width_in: int, width: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(width_in, width, 3, stride, 1)
    return nn.Sequential(conv, nn.ELU(), nn.BatchNorm2d(width))


def test_a_norm_behind_the_activation_stays_there() -> None:
    td = to_topdown(Net(pooled, norm_last), input_size=SIZE)
    kinds = (nn.Conv2d, nn.ELU, nn.BatchNorm2d)
    units = [td.get_submodule(path) for path in ("levels.0.lift", "levels.1.merge.unit")]
    units.append(td.get_submodule("levels.2.stage.body.0"))
    for found in units:
        assert [type(layer) for layer in found.children()] == list(kinds)


class Widening(nn.Module):
    """A stage of a block and a unit that widens, then one of a plain unit (ResNet-9)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = unit(3, 8), Beside(8, 8, 1, nn.Identity())
        self.wide = nn.Sequential(*unit(8, 16).children(), nn.MaxPool2d(2))
        self.coarse = nn.Sequential(*unit(16, 32).children(), nn.MaxPool2d(2))
        self.last, self.fc = Beside(32, 32, 1, nn.Identity()), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.coarse(self.wide(self.block(self.stem(x)))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Generated(nn.Module):
    """A block whose kernel another layer makes: it can't have other widths."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.shape, self.seed = (width, width_in, 3, 3), nn.Parameter(torch.randn(4))
        self.make = nn.Linear(4, width * width_in * 9)
        self.down = nn.Conv2d(width_in, width, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.make(self.seed).view(self.shape)
        return F.conv2d(x, kernel, stride=2, padding=1).relu() + self.down(x)


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (Widening(), ["block.conv.0", "wide.0", "coarse.0", "last.conv.0"]),
        (
            nn.Sequential(
                unit(3, 8), Generated(8, 8), Generated(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(16, 7),
            ),
            ["1.make", "2.make"],
        ),
    ],
    ids=["unit before a chain", "stage of one block"],
)  # fmt: skip
def test_every_layer_behind_the_stem_has_its_copy(model: nn.Module, layers: list[str]) -> None:
    plan = plan_topdown(model, input_size=SIZE, output_stride=1)
    copied = {layer.source for layer in plan.layers}
    assert set(layers) <= copied


def weighted(net: Net, x: Tensor) -> Tensor:
    weights = net.attention(x).flatten(2).softmax(-1)
    return net.fc((x.flatten(2) * weights).sum(-1))  # type: ignore[no-any-return]


def weighted_map(net: Net, x: Tensor) -> Tensor:
    return net.fc((x * net.attention(x).sigmoid()).sum((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("head", [weighted, weighted_map])
def test_weights_of_positions_and_their_sum_are_a_pooling(head: Function) -> None:
    td = to_topdown(Net(head), input_size=SIZE)
    names = [name for name, _ in td.named_parameters() if "attention" in name]
    assert names == ["head.attention.weight", "head.attention.bias"]


class TwoSizes(nn.Module):
    """A head that flattens the map, and half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(3, 8), unit(8, 16, stride=2))
        self.fc = nn.Linear(16 * (16 * 16 + 8 * 8), 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        half = F.max_pool2d(x, 2)
        return self.fc(torch.cat([x.flatten(1), half.flatten(1)], 1))  # type: ignore[no-any-return]


def test_a_head_pools_to_every_size_that_it_flattens() -> None:
    td = to_topdown(TwoSizes(), input_size=SIZE)
    sizes = [m.output_size for m in td.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    assert sizes == [(16, 16), (8, 8)]
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)


class Coordinates(nn.Module):
    """Coordinate attention: rows and columns in one dimension, and apart again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, 8, 1)
        self.rows, self.columns = nn.Conv2d(8, width, 1), nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.size(2), x.size(3)
        y = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], 2)
        rows, columns = torch.split(self.squeeze(y), [h, w], dim=2)
        return x * self.columns(columns.permute(0, 1, 3, 2)).sigmoid() * self.rows(rows).sigmoid()


class InPlace(nn.Module):
    """Two branches, stacked by methods that write."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x).unsqueeze_(1) for branch in self.branches], 1).sum(1)


class Experts(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))
        self.gate = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.mean((2, 3))).softmax(-1)
        parts = [gate[:, i, None, None, None] * e(x) for i, e in enumerate(self.experts)]
        return parts[0] + parts[1] + parts[2]


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], 1, 1, 1, device=x.device) < 0.9)


class ToBeQuantised(nn.Module):
    """Sums as a model has them that may be quantised later."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.sum = nn.Conv2d(width, width, 1), FloatFunctional()
        self.stub = torch.ao.quantization.QuantStub()  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        return self.sum.add(x, self.conv(self.stub(x)))


class Mish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _mish(x)


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(F.softplus(x))


_mish: Callable[[Tensor], Tensor] = torch.jit.script(mish)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize(
    "beside",
    [
        Coordinates, InPlace, Experts, ToBeQuantised, lambda width: DropPath(),
        lambda width: Mish(),
    ],
    ids=["coordinates", "in place", "experts", "to be quantised", "drop path", "scripted"],
)  # fmt: skip
def test_blocks_convert_under_every_arrangement(
    beside: Callable[[int], nn.Module], arrangement: Any
) -> None:
    td = to_topdown(blocks(beside), input_size=SIZE, arrangement=arrangement)
    assert td.plan.opaque == ()
    trained(td)


class Branches(nn.Module):
    """Two 1x1 convolutions of one tensor."""

    def __init__(self, width: int, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right = (nn.Conv2d(width, width, 1) for _ in range(2))
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.left(x), self.right(x))


JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "product": torch.mul,
    "parts": lambda a, b: torch.cat([a, b], 1).view(a.shape[0], 2, *a.shape[1:]).sum(1),
}


@pytest.mark.parametrize("join", JOINED.values(), ids=JOINED)
def test_a_convolution_in_a_branch_that_is_no_shortcut_stays(join: Any) -> None:
    """Only a projection beside the block's own layers may become an identity."""
    td = to_topdown(blocks(lambda width: Branches(width, join)), input_size=SIZE)
    called = [str(n.target) for n in td.graph.nodes if str(n.target).endswith(("left", "right"))]
    assert len(called) == 10
    assert len(set(called)) == 10


class Windows(nn.Module):
    """A kernel for each position, made of what stands there, on windows in a row (involution)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width_in, width, 1), nn.Conv2d(width, width, 1)
        self.kernel, self.pool = nn.Conv2d(width, 9, 1), nn.AvgPool2d(stride, stride)
        self.unfold = nn.Unfold(3, padding=1, stride=stride)
        self.down = nn.Conv2d(width_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x).relu()
        kernel = self.kernel(self.pool(y)).unsqueeze(1)
        n, _, taps, h, w = kernel.shape
        windows = self.unfold(y).view(n, -1, taps, h, w)
        return (self.expand((kernel * windows).sum(2)) + self.down(x)).relu()


def test_windows_whose_step_cant_be_taken_away_are_replaced() -> None:
    steps = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1)]
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)
    model = nn.Sequential(unit(3, 8), *(Windows(*step) for step in steps), *end)
    td = to_topdown(model, input_size=SIZE)
    assert "lays its windows out in a row of positions" in str(td.plan)
    trained(td)


def test_a_stage_of_one_block_of_such_windows_is_refused() -> None:
    steps = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2)]
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)
    model = nn.Sequential(unit(3, 8), *(Windows(*step) for step in steps), *end)
    with pytest.raises(UnknownOperatorError, match="let a convolution or pooling of its own lower"):
        to_topdown(model, input_size=SIZE)
    first = nn.AvgPool2d(2), Windows(16, 32, 1)
    body = *(Windows(*step) for step in steps[:-1]), *first
    trained(to_topdown(nn.Sequential(unit(3, 8), *body, *end), input_size=SIZE))
