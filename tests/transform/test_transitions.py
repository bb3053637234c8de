"""What lowers the resolution by means that can't be taken from it, and what is read at a fixed size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import ConversionError, Plan, to_topdown
from td_transform.plan import UnitPlan, UpsamplePlan
from tests.networks import Blur
from tests.properties import check_network
from tests.transform.bodies import SIZE, TokenBlock, convert
from tests.transform.plain import Network, Residual, unit


class SubsampledAttention(nn.Module):
    """A fourth of the positions ask all of them, with a bias for every pair: 256 keys, 64 queries."""

    def __init__(self, width_in: int, width_out: int, side: int) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(width_in, width_out), nn.Linear(width_in, 2 * width_out)
        self.bias = nn.Parameter(torch.zeros(side**2 // 4, side**2))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        queries = self.q(x.permute(0, 2, 3, 1)[:, ::2, ::2].reshape(n, h * w // 4, -1))
        keys, values = self.kv(x.flatten(2).transpose(1, 2)).chunk(2, dim=-1)
        weights = (queries @ keys.transpose(1, 2) + self.bias).softmax(-1)
        out: Tensor = (weights @ values).transpose(1, 2).reshape(n, -1, h // 2, w // 2)
        return out


class PooledQueries(nn.Sequential):
    """Two stages; the coarser begins with attention that downsamples."""

    def __init__(self, *, repeats: bool = True) -> None:
        last = [SubsampledAttention(8, 12, 16), *([Residual(unit(12, 12))] if repeats else [])]
        down = [SubsampledAttention(12, 16, 8), Residual(unit(16, 16))]
        super().__init__(
            unit(3, 8, 2), Residual(unit(8, 8)), *last, *down,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
        )  # fmt: skip


BOTH = pytest.mark.parametrize(
    ("arrangement", "widths"), [("td", [16, 12, 8]), ("uniform", [12, 12, 12])]
)


def note(plan: Plan) -> list[str]:
    return [line for line in plan.notes if line.startswith("replaced by")]


@BOTH
def test_a_transition_that_cannot_be_copied_is_replaced(
    arrangement: str, widths: list[int]
) -> None:
    """By a 1x1 unit where the width changes, and an upsampling; the stage's own blocks follow."""
    td = convert(PooledQueries(), arrangement=arrangement, output_stride=2)
    assert [level.width for level in td.plan.levels] == widths
    middle = td.plan.levels[1]
    changes = widths[0] != widths[1]
    kinds = [UnitPlan, UpsamplePlan] if changes else [UpsamplePlan]
    assert [type(part) for part in middle.transition] == kinds
    if changes:
        unit = td.get_submodule("levels.1.adapter")
        assert (unit.conv.in_channels, unit.conv.out_channels) == (16, 12)
        assert unit.conv.kernel_size == (1, 1)
    assert len(middle.stage) == 1
    (line,) = note(td.plan)
    assert "in module '2.q' (" in line
    assert line in str(td.plan)
    check_network(td, torch.rand(2, *SIZE), classes=7)


def test_what_is_replaced_is_built_again_from_its_plan() -> None:
    td = convert(PooledQueries(), output_stride=2)
    assert note(Plan.from_json(td.plan.to_json())) == note(td.plan)


def test_a_stage_of_nothing_but_such_a_transition_is_refused() -> None:
    with pytest.raises(ConversionError, match="let a convolution or pooling of its own lower"):
        convert(PooledQueries(repeats=False), output_stride=2)


class Halo(nn.Module):
    """Blocks of 4x4 positions look at windows of 6x6, cut out of a padded map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.kv = nn.Conv2d(width, width, 1), nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q = self.q(x).reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
        windows = F.pad(self.kv(x), (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4)
        k, v = windows.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).chunk(2, dim=-1)
        out = (q.flatten(3, 4) @ k.transpose(-1, -2)).softmax(-1) @ v
        out = out.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(n, c, h, w)


@pytest.mark.parametrize("arrangement", ["td", "reversed"])
def test_padding_that_windows_are_cut_out_of_stays(arrangement: str) -> None:
    td = convert(Network(Halo), arrangement=arrangement)
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Sorted(nn.Module):
    """A unit's channels, the smallest first: one of two results."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).sort(1)[0]


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_padding_behind_one_of_several_results(arrangement: str) -> None:
    body = nn.Sequential(unit(3, 8), Sorted(8), Blur(8), unit(8, 8), unit(8, 16, 2))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7))
    td = convert(nn.Sequential(*body, *head), arrangement=arrangement)
    assert [level.strides for level in td.plan.levels] == [(4, 4), (2, 2), (1, 1)]
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 16), ("reversed", 32)])
def test_a_network_without_a_classifier_gives_the_features_of_its_last_map(
    arrangement: str, width: int
) -> None:
    model = Network(head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.warns(UserWarning, match=rf"no learned layer .* 32 channels .* the {width} of"):
        td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    check_network(td, torch.rand(2, *SIZE), classes=width)


class PinnedHead(nn.Module):
    """Its channels are put in another order by number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(32))
        self.linear = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(torch.index_select(x.mean((2, 3)), 1, self.order))
        return logits


def test_a_head_of_fixed_width_stands_behind_a_unit_of_1x1() -> None:
    td = convert(Network(head=PinnedHead()))
    unit = td.get_submodule("levels.2.adapter_to_head")
    assert (unit.conv.in_channels, unit.conv.out_channels) == (8, 32)
    assert unit.conv.kernel_size == (1, 1)
    assert "torch.index_select" in str(td.plan)
    check_network(td, torch.rand(2, *SIZE), classes=7)


def test_padding_before_the_first_convolution_is_no_part_of_the_image() -> None:
    """Else the pyramid would be made of 33 x 33 pixels."""
    model = Network()
    first = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 2), nn.ReLU())
    model.stem = first
    td = convert(model)
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Merging(nn.Module):
    """Pixels of 2x2 become channels, of tokens whose height and width go along as numbers (Swin)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        n, _, c = x.shape
        x = x.view(n, height, width, c)
        x = torch.cat([x[:, i::2, j::2] for j in range(2) for i in range(2)], dim=-1)
        x = self.reduction(x.view(n, -1, 4 * c))
        return x, (height + 1) // 2, (width + 1) // 2


class Tokens(nn.Module):
    """Blocks on tokens between two such mergings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(TokenBlock(w) for w in (4, 8, 16))
        self.mergings = nn.ModuleList(Merging(w) for w in (4, 8))
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        x = self.blocks[0](x.flatten(2).transpose(1, 2))
        for merging, block in zip(self.mergings, list(self.blocks)[1:], strict=True):
            x, height, width = merging(x, height, width)
            x = block(x)
        logits: Tensor = self.head(x.mean(1))
        return logits


def test_sizes_that_are_rounded_up_belong_to_the_map_at_hand() -> None:
    td = convert(Tokens())
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 16), (2, 8), (1, 4)]
    check_network(td, torch.rand(2, *SIZE), classes=7)


class DropPath(nn.Module):
    """Stochastic depth: nothing outside of training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand(len(x), *(1,) * (x.dim() - 1)).round() * 2 if self.training else x


class Dropped(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(width, width, 3, padding=1), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop(self.conv(x))
        return out


def test_what_does_nothing_outside_of_training_keeps_no_width() -> None:
    td = convert(Network(Dropped), arrangement="uniform")
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)


class UnfoldedMerging(nn.Module):
    """Patches beside each other as channels, and the size that a convolution's formula gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sampler = nn.Unfold(2, stride=2)
        self.reduction = nn.Linear(4 * width, 2 * width)

    def forward(self, x: Tensor, size: Any) -> Any:
        h, w = ((side + 2 * 0 - 1 * (2 - 1) - 1) // 2 + 1 for side in size)
        x = x.transpose(1, 2).unflatten(2, size)
        return self.reduction(self.sampler(x).transpose(1, 2)), (h, w)


class Mixing(nn.Module):
    """A convolution on tokens, with a third axis of length 1 that the next block asks for again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor, size: Any) -> Any:
        depth, h, w = size
        volume = self.conv(x.transpose(1, 2).reshape(x.shape[0], -1, depth, h, w))
        return x + volume.flatten(2).transpose(1, 2), volume.shape[2:]


class TokensOfASize(nn.Module):
    """Two stages of tokens, which are handed on together with their size, and a class token that the
    head parts from them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.fine = nn.ModuleList([Mixing(8), Mixing(8)])
        self.merging = UnfoldedMerging(8)
        self.coarse = nn.ModuleList([Mixing(16), Mixing(16)])
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.drop, self.fc = DropPath(), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        size = x.unsqueeze(2).shape[2:]
        x = x.flatten(2).transpose(1, 2)
        for block in self.fine:
            x, size = block(x, size)
        x, (h, w) = self.merging(x, tuple(size[1:]))
        size = (1, h, w)
        for block in self.coarse:
            x, size = block(x, size)
        x = self.drop(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        token, _ = x.split([1, size[1] * size[2]], 1)
        out: Tensor = self.fc(token.mean(1))
        return out


@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 12), ("reversed", 16)])
def test_tokens_with_their_size_are_cut_into_stages(arrangement: str, width: int) -> None:
    td = convert(TokensOfASize(), arrangement=arrangement, output_stride=2)
    assert [level.stride for level in td.plan.levels] == [4, 2]
    assert td.plan.levels[-1].width == width
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)


class PositionTable(nn.Module):
    """A table of positions, the class token's apart, laid out as a map to be resized (PVT)."""

    def __init__(self, width: int, side: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.table = nn.Parameter(torch.zeros(1, 1 + side**2, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        h, w = x.shape[2:]
        table = self.table[:, 1:].reshape(1, h, w, -1).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(h, w), mode="bilinear").flatten(2)
        tokens = torch.cat([self.table[:, :1], table.transpose(1, 2)], 1)
        out: Tensor = x + tokens[:, 1:].transpose(1, 2).unflatten(2, (h, w))
        return out


@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 16)])
def test_a_table_of_positions_keeps_its_rows(arrangement: str, width: int) -> None:
    model = nn.Sequential(
        unit(3, 8, 2), Residual(unit(8, 8)), PositionTable(8), Residual(unit(8, 8)),
        unit(8, 16, 2), Residual(unit(16, 16)), unit(16, 32, 2), Residual(unit(32, 32)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip
    td = convert(model, arrangement=arrangement, output_stride=2)
    (table,) = (p for name, p in td.named_parameters() if name.endswith("table"))
    assert table.shape == (1, 257, width)
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)
