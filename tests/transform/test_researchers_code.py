"""Networks as researchers' own repositories write them, each cut down to what was refused in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import ConversionError, operator_rule, to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE, blocks
from tests.transform.plain import Network, unit


def head(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 7))


class Block(nn.Module):
    """A block of two branches, which `left` and `right` make."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.left(x) + self.right(x)
        return y


def stages(block: Callable[[int, int, int], nn.Module]) -> nn.Module:
    """A stem, and two blocks a stage at strides 1, 2, 4."""
    body = [
        block(width_in, width, stride)
        for width_in, width, stride in [(8, 12, 1), (12, 16, 2), (16, 16, 1), (16, 32, 2)]
    ]
    return nn.Sequential(unit(3, 8), *body, head(32))


def padded_pointwise() -> nn.Module:
    """AllConv: a convolution without padding, and 1x1 convolutions that pad instead."""
    return nn.Sequential(
        unit(3, 8), nn.MaxPool2d(2), unit(8, 16), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 1, padding=1), nn.ReLU(),
        nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 7),
    )  # fmt: skip


class Cropped(nn.Module):
    """BagNet: a convolution without padding, and a shortcut that is cut to its size."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, 3, stride)
        self.down = nn.Conv2d(width_in, width, 1, stride) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y, shortcut = self.conv(x), self.down(x)
        if shortcut.size(-1) != y.size(-1):
            difference = shortcut.size(-1) - y.size(-1)
            shortcut = shortcut[:, :, :-difference, :-difference]
        return F.relu(y + shortcut)


class Shifted(nn.Module):
    """Shake-shake: half of a shortcut is subsampled from the positions between."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width_in, width // 2, 1) for _ in range(2))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        between = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        halves = [
            self.first(F.avg_pool2d(x, 1, self.stride)),
            self.second(F.avg_pool2d(between, 1, self.stride)),
        ]
        return torch.cat(halves, 1)


class Emptied(nn.Conv2d):
    """GhostNet's module in its ResNet: a convolution's name and attributes for two of them."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__(width_in, width, 3, stride, 1)
        self.weight = self.bias = None  # type: ignore[assignment]
        self.first = nn.Conv2d(width_in, width // 2, 3, stride, 1)
        self.second = nn.Conv2d(width // 2, width // 2, 3, 1, 1, groups=width // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return torch.cat([y, self.second(y)], 1)


class Identity(nn.Conv2d):
    """Diverse branches: a 1x1 kernel on top of an identity, which is no buffer."""

    def __init__(self, width: int, groups: int = 1) -> None:
        super().__init__(width, width, 1, groups=groups, bias=False)
        self.identity = torch.eye(width // groups).repeat(groups, 1)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight + self.identity, groups=self.groups)


class PaddedNorm(nn.Module):
    """Diverse branches: a norm, and padding with what it makes of zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(self.norm(x), (1, 1, 1, 1))
        border = self.norm.bias.detach() - self.norm.running_mean  # type: ignore[operator]
        y[:, :, :1, :] = y[:, :, -1:, :] = border.view(1, -1, 1, 1)
        y[:, :, :, :1] = y[:, :, :, -1:] = border.view(1, -1, 1, 1)
        return y


class PaddedWithin(nn.Sequential):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        conv = nn.Conv2d(width_in, width, 3, stride)
        super().__init__(Identity(width_in), PaddedNorm(width_in), conv)


class HeadGate(nn.Module):
    """InternImage-H: a gate for each of 8 groups, by a function that has a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, width)), nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        gates = F.linear(x.mean((2, 3)), self.weight, self.bias).sigmoid()
        return (x.view(n, 8, c // 8, h, w) * gates[:, :, None, None, None]).reshape(n, c, h, w)


class Ragged(nn.Module):
    """EdgeNeXt: 8 or 16 channels in parts of a third rounded up, the last of which is smaller."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = -(-width // 3)
        self.convs = nn.ModuleList(nn.Conv2d(self.size, self.size, 3, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second, rest = torch.split(x, self.size, 1)
        first = self.convs[0](first)
        return torch.cat([first, self.convs[1](first + second), rest], 1)


class Keyword(nn.Module):
    """EMSA: a module called as a word of Python is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Sequential()
        self.transform.add_module("in", nn.InstanceNorm2d(width, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid_(self.transform(x))


class CrissCross(nn.Module):
    """Criss-cross attention: the columns of all images beside each other, with a mask for each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.value = nn.Conv2d(width, 4, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.size()
        query, value = self.query(x), self.value(x)
        columns, rows = _columns(query), _columns(query.transpose(2, 3))
        mask = torch.diag(torch.tensor(-9.0).repeat(h)).unsqueeze(0).repeat(n * w, 1, 1)
        down = torch.bmm(columns.permute(0, 2, 1), columns) + mask
        down = down.view(n, w, h, h).permute(0, 2, 1, 3)
        along = torch.bmm(rows.permute(0, 2, 1), rows).view(n, h, w, w)
        weights = torch.cat([down, along], 3).softmax(3)
        down = weights[:, :, :, :h].permute(0, 2, 1, 3).contiguous().view(n * w, h, h)
        along = weights[:, :, :, h : h + w].contiguous().view(n * h, w, w)
        out_down = torch.bmm(_columns(value), down.permute(0, 2, 1)).view(n, w, -1, h)
        out_along = torch.bmm(_columns(value.transpose(2, 3)), along.permute(0, 2, 1))
        out = out_down.permute(0, 2, 3, 1) + out_along.view(n, h, -1, w).permute(0, 2, 1, 3)
        return out + x


def _columns(x: Tensor) -> Tensor:
    n, c, h, w = x.size()
    return x.permute(0, 3, 1, 2).contiguous().view(n * w, c, h)


class Polarized(nn.Module):
    """Polarized attention: one channel, whose positions are weights for the others'."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.values, self.query = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width, 1, 1)
        self.gate, self.norm = nn.Conv2d(width // 2, width, 1), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        values = self.values(x).reshape(n, c // 2, -1)
        query = self.query(x).reshape(n, -1, 1).softmax(1)
        gate = self.gate(torch.matmul(values, query).unsqueeze(-1)).reshape(n, c, 1)
        gate = self.norm(gate.permute(0, 2, 1)).sigmoid().permute(0, 2, 1)
        return gate.reshape(n, c, 1, 1) * x  # type: ignore[no-any-return]


class Positions(nn.Module):
    """ACmix: coordinates of no device in particular."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        rows = torch.linspace(-1.0, 1.0, h).unsqueeze(1).repeat(1, w)
        return x + self.conv(rows[None, None])


class ScaleBranch(nn.Module):
    """GhostNetV3: a branch of a 1x1 convolution in the middle of a block that starts with a norm."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm, self.first = nn.BatchNorm2d(width_in), nn.Conv2d(width_in, width, 3, stride, 1)
        self.scale = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.last = unit(width, width)
        self.down = nn.Conv2d(width_in, width, 1, stride) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.relu(self.norm(x)))
        y = F.relu(y) + 0
        return self.last(y) + self.scale(y) + self.down(x)  # type: ignore[no-any-return]


class Measured(nn.Module):
    """UniRepLKNet, ConvNeXt V2: channels weighted by their norms over the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        sizes = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        y = self.weight * x * (sizes / (sizes.mean(dim=1, keepdim=True) + 1e-6)) + x
        return y / (x.norm(2, 1, True) + torch.linalg.vector_norm(x, dim=1)[:, None] + 1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "padded pointwise": padded_pointwise,
    "cropped": lambda: stages(Cropped),
    "shifted": lambda: stages(lambda *sizes: Block(unit(*sizes), Shifted(*sizes))),
    "padded by a norm": lambda: stages(lambda *sizes: Block(unit(*sizes), PaddedWithin(*sizes))),
    "gated by heads": lambda: blocks(HeadGate),
    "in ragged parts": lambda: blocks(Ragged),
    "called in": lambda: blocks(Keyword),
    "measured": lambda: blocks(Measured),
    "polarized": lambda: Network(Polarized),
    "positions of no device": lambda: blocks(Positions),
    "emptied": lambda: stages(lambda *sizes: nn.Sequential(Emptied(*sizes), nn.ReLU())),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("model", MODELS)
def test_they_run_at_every_level(model: str, arrangement: Any) -> None:
    td = to_topdown(MODELS[model](), input_size=SIZE, arrangement=arrangement)
    assert len(td.plan.levels) == 3
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_1x1_convolution_that_pads_stays_without_its_padding(arrangement: Any) -> None:
    td = to_topdown(padded_pointwise(), input_size=SIZE, arrangement=arrangement)
    kept = [m for n, m in td.levels.named_modules() if n.endswith("stage.6")]
    assert [(m.kernel_size, m.padding) for m in kept] == [((1, 1), (0, 0))]


@pytest.mark.parametrize("groups", [1, 4])
def test_an_identity_beside_a_kernel_is_one_at_every_width(groups: int) -> None:
    model = stages(lambda *s: nn.Sequential(Identity(s[0], groups), unit(*s)))
    td = to_topdown(model, input_size=SIZE, arrangement="uniform")
    kernels = [m for m in td.modules() if isinstance(m, Identity)]
    assert {m.in_channels for m in kernels} == {16}
    for conv in kernels:
        with torch.no_grad():
            conv.weight.zero_()
        x = torch.rand(1, 16, 3, 3)
        assert torch.equal(conv(x)[:, : 16 // groups], x[:, : 16 // groups])
        assert conv.identity.sum() == 16


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_1x1_branch_that_keeps_width_and_resolution_is_no_shortcut(arrangement: Any) -> None:
    td = to_topdown(stages(ScaleBranch), input_size=SIZE, arrangement=arrangement)
    assert len([n for n, _ in td.levels.named_modules() if n.endswith("scale.0")]) == 4
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Chosen(nn.Module):
    """LegoNet: a parameter whose gradient is set by hand, since only its largest entry is asked for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, 1, 1))
        self.choice = nn.Parameter(torch.randn(width, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.choice >= self.choice.amax(1, keepdim=True)
        return F.conv2d(x, self.weight * chosen.float())


def test_what_gets_no_gradient_in_the_model_may_get_none() -> None:
    td = to_topdown(blocks(Chosen), input_size=SIZE)
    td(torch.rand(2, *SIZE)).sum().backward()
    lost = [name for name, p in td.named_parameters() if p.grad is None]
    assert len(lost) == 5
    assert all(name.endswith("beside.choice") for name in lost)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_columns_of_all_images_in_a_row_are_no_axis(arrangement: Any) -> None:
    td = to_topdown(blocks(CrissCross), input_size=SIZE, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Flattened(nn.Module):
    """A view of what is laid out as the bottom-up network lays it out."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c * h, w).relu().view(n, c, h, w)


def test_a_view_takes_a_map_that_is_laid_out_otherwise() -> None:
    td = to_topdown(blocks(lambda width: Flattened()), input_size=SIZE)
    check_network(td.to(memory_format=torch.channels_last), torch.rand(2, *SIZE), classes=7)  # type: ignore[call-overload]


class Table(nn.Module):
    """A table that its rule says nothing of."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


@operator_rule(Table)
def _table(call: Any) -> Any:
    return call.dims()


def test_what_breaks_in_uniform_alone_says_so() -> None:
    to_topdown(blocks(Table), input_size=SIZE)
    with pytest.raises(
        ConversionError, match="or use arrangement='td' where only 'uniform' changes"
    ):
        to_topdown(blocks(Table), input_size=SIZE, arrangement="uniform")
