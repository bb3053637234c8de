"""What belongs to a stage, to a transition and to the stem: one tiny network a rule."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from td_transform import to_topdown
from td_transform.analyse import analyse
from td_transform.trace import trace
from tests.networks import Blur
from tests.transform.oddities import NormAct
from tests.transform.plain import Residual, unit

SIZE = (3, 32, 32)
WIDTHS = (8, 16, 32)


def head(width: int = WIDTHS[-1]) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Chain(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(f"part{i}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class Merging(Chain):
    """A transition that widens the map before a depthwise convolution lowers its resolution."""

    def __init__(self, width_in: int, width_out: int) -> None:
        depthwise = nn.Conv2d(width_out, width_out, 3, 2, 1, groups=width_out)
        super().__init__(
            unit(width_in, width_out), nn.Conv2d(width_out, width_out, 1), nn.ReLU(), depthwise,
            nn.Conv2d(width_out, width_out, 1),
        )  # fmt: skip


class Pooling(Chain):
    """A transition of a unit and a pooling; a stride-1 unit of 3x3 before it is no stage's end."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(unit(width_in, width_out), nn.MaxPool2d(2))


class Tree(nn.Module):
    """Two maps side by side, and a unit inside the block that joins them."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.left, self.right = unit(width_in, width_out, 2), unit(width_out, width_out)
        self.root = unit(2 * width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        out: Tensor = self.root(torch.cat([left, self.right(left)], 1))
        return out


class Inverted(Chain):
    """An inverted bottleneck with a depthwise convolution at either end of its expansion."""

    def __init__(self, width_in: int, width_out: int) -> None:
        wide = 4 * max(width_in, width_out)
        super().__init__(
            nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in),
            nn.Conv2d(width_in, wide, 1), nn.ReLU(),
            nn.Conv2d(wide, wide, 3, 2, 1, groups=wide), nn.Conv2d(wide, width_out, 1),
        )  # fmt: skip


class Blurred(Chain):
    """An inverted bottleneck whose blur stands between its depthwise convolution and the projection."""

    def __init__(self, width_in: int, width_out: int) -> None:
        wide = 4 * width_in
        super().__init__(
            nn.Conv2d(width_in, wide, 1), nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.ReLU(), Blur(wide),
            nn.Conv2d(wide, width_out, 1),
        )  # fmt: skip


class BlurredInverted(Chain):
    """`Blurred` with a depthwise convolution before its expansion, too."""

    def __init__(self, width_in: int, width_out: int) -> None:
        first = nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in)
        super().__init__(first, *Blurred(width_in, width_out).children())


@pytest.mark.parametrize("transition", [Merging, Pooling, Tree, Inverted, Blurred, BlurredInverted])
def test_a_module_that_downsamples_is_the_next_stages(transition: type[nn.Module]) -> None:
    stages: list[nn.Module] = [Residual(unit(8, 8))]
    for before, width in itertools.pairwise(WIDTHS):
        stages += [transition(before, width), Residual(unit(width, width))]
    model = nn.Sequential(unit(3, 8), nn.Sequential(*stages), head())
    found = analyse(trace(model, SIZE))
    ends = [found.trunk.width(stage.segments[-1].end) for stage in found.stages]
    assert [stage.stride for stage in found.stages] == [1, 2, 4]
    assert [stage.width for stage in found.stages] == ends == list(WIDTHS)
    td = to_topdown(model, input_size=SIZE, device="meta")
    assert [level.width for level in td.plan.levels] == [32, 16, 8]


class Fused(Chain):
    """An inverted bottleneck whose expansion is a whole convolution; a blur may follow it."""

    def __init__(self, width_in: int, width_out: int, blur: bool) -> None:
        wide = 4 * width_in
        lowering = [unit(width_in, wide), Blur(wide)] if blur else [unit(width_in, wide, 2)]
        super().__init__(*lowering, nn.Conv2d(wide, width_out, 1))


@pytest.mark.parametrize("blur", [True, False])
def test_an_expansion_belongs_to_its_projection(blur: bool) -> None:
    """Where no block of its kind has a shortcut either."""
    stages = [
        Fused(8, 16, blur), Residual(unit(16, 16)), unit(16, 32, 2), Residual(unit(32, 32)),
    ]  # fmt: skip
    model = nn.Sequential(unit(3, 8), nn.Sequential(*stages), head())
    found = analyse(trace(model, SIZE))
    assert [(stage.stride, stage.width) for stage in found.stages] == [(2, 16), (4, 32)]
    assert [stage.entry.kind for stage in found.stages] == ["block", "unit"]


def test_a_narrowing_unit_with_an_activation_is_no_projection() -> None:
    """Two plain units stay such, in a module of their own too; a norm may end with the activation."""
    pairs = [
        Chain(unit(a, b, 2), nn.Conv2d(b, b // 2, 1), NormAct(b // 2, nn.ReLU()))
        for a, b in ((8, 32), (16, 64))
    ]
    model = nn.Sequential(unit(3, 8), *pairs, head())
    stages = analyse(trace(model, SIZE)).stages
    assert [stage.entry_kind for stage in stages] == ["chain"] * 3
    assert [len(stage.segments) for stage in stages] == [1, 2, 2]


class Concatenated(Chain):
    """All maps of a chain side by side."""

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(maps[-1]))
        return torch.cat(maps, 1)


class Aggregated(Chain):
    """A chain's maps, and a 1x1 unit that narrows them again (VoVNet's block)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        wide = width_in + 16
        chain = Concatenated(unit(width_in, 8), unit(8, 8))
        super().__init__(chain, nn.Conv2d(wide, width_out, 1), nn.ReLU())


def test_a_unit_that_narrows_belongs_to_the_block_that_widens() -> None:
    """Where a module holds these two: not DenseNet's, whose units are in modules of their own."""
    model = nn.Sequential(
        unit(3, 8), Aggregated(8, 16), nn.MaxPool2d(2), Aggregated(16, 24), Aggregated(24, 24),
        nn.MaxPool2d(2), Aggregated(24, 32), head(),
    )  # fmt: skip
    stages = analyse(trace(model, SIZE)).stages
    assert [stage.width for stage in stages] == [16, 24, 32]
    assert [stage.entry_kind for stage in stages] == ["pooled"] * 3
    assert [len(stage.segments) for stage in stages] == [1, 2, 1]


class Fork(nn.Module):
    """A branching unit, as Inception's stem has them."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.left, self.right = unit(width, width // 2, stride), unit(width, width // 2, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


@pytest.mark.parametrize(("own_module", "strides"), [(False, [4, 8, 16]), (True, [8, 16])])
def test_branching_leading_units(own_module: bool, strides: list[int]) -> None:
    """Several at several resolutions are stages, from the first that branches; all are the stem
    where they lie in a module of their own."""
    leading = [unit(3, 8, 2), unit(8, 8), unit(8, 8, 2), Fork(8)]
    blocks = [
        unit(8, 16, 2), Residual(unit(16, 16)), Residual(unit(16, 16)),
        unit(16, 32, 2), Residual(unit(32, 32)),
    ]  # fmt: skip
    model = nn.Sequential(
        *([Chain(*leading)] if own_module else leading), nn.Sequential(*blocks), head()
    )
    found = analyse(trace(model, SIZE))
    assert [stage.stride for stage in found.stages] == strides


class ClassAttention(nn.Module):
    """A head that reads a channels-last map as tokens, with a class token before them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = self.norm(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        scores = torch.softmax(x @ x[:, :1].transpose(1, 2), 1)
        out: Tensor = self.out((x * scores).sum(1))
        return out


class Last(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.linear(self.norm(x))
        return out


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.fine, self.down = Last(16), nn.Conv2d(16, 16, 2, 2)
        self.coarse, self.more, self.head = Last(16), Last(16), ClassAttention(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fine(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.more(self.coarse(self.down(x).permute(0, 2, 3, 1)))
        out: Tensor = self.head(x)
        return out


def test_a_head_that_reads_tokens_of_a_channels_last_map() -> None:
    """The map is pooled to the size that the head read, wherever its channels stand."""
    with pytest.warns(UserWarning, match="works on the positions of a 16x16 map"):
        td = to_topdown(ChannelsLast(), input_size=SIZE)
    assert td(torch.rand(2, *SIZE)).shape == (2, 5)
