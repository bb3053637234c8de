"""What libraries' code has: forwards of convolutions, shared poolings, sums with some channels."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import to_topdown
from td_transform.errors import StructureError, TraceError
from td_transform.options import Arrangement
from tests.transform.bodies import SIZE, Make, blocks, trained
from tests.transform.plain import unit

ARRANGEMENTS = get_args(Arrangement)


def staged(make: Make, first: int, second: int, third: int) -> nn.Module:
    """A stem, and a block at each of the strides 1, 2, 4."""
    body = make(first, first, 1), make(first, second, 2), make(second, third, 2)
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(third, 7)
    return nn.Sequential(unit(3, first), *body, *end)


class Masked(nn.Conv2d):
    """Every kernel reads some channels, and no position after its own: two masks."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)
        self.mask = nn.Parameter(torch.zeros(width, width, 3, 3), requires_grad=False)
        self.causal = nn.Buffer(torch.ones(width, width, 3, 3))
        with torch.no_grad():
            self.mask[:, ::2] = 1
            self.causal[:, :, 1, 2] = self.causal[:, :, 2] = 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask * self.causal, self.bias, padding=1)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_masks_are_as_wide_as_their_weight_and_stay_masks(arrangement: Arrangement) -> None:
    td = to_topdown(blocks(Masked), input_size=SIZE, arrangement=arrangement)
    layers = [m for m in td.modules() if isinstance(m, Masked)]
    assert len(layers) == 5
    for layer in layers:
        assert layer.mask.shape == layer.causal.shape == layer.weight.shape
        assert set(layer.mask.unique().tolist()) == {0, 1}
        assert not layer.causal[:, :, 2].any()
        assert bool(layer.causal[:, :, :1].all())
    trained(td)


class Branches(nn.Conv2d):
    """One kernel for three parts of the channels, at a dilation each: it reads three times what it says."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__(width_in, width, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 3:
            raise ValueError("three parts")
        parts = [
            F.conv2d(part, self.weight, None, self.stride, d, d)
            for d, part in enumerate(x.chunk(3, 1), 1)
        ]
        return torch.cat(parts, 1)


class Trident(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        first = nn.Conv2d(width_in, width, 1, bias=False)
        self.body = nn.Sequential(
            first, nn.BatchNorm2d(width), nn.ReLU(),
            Branches(width // 3, width // 3, stride), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.down = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.body(x) + self.down(x)).relu()
        return y


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_convolution_that_reads_other_channels_than_it_says_is_looked_into(
    arrangement: Arrangement,
) -> None:
    td = to_topdown(staged(Trident, 6, 12, 24), input_size=SIZE, arrangement=arrangement)
    assert not td.plan.opaque
    kernels = [n for n, p in td.named_parameters() if p.dim() == 4 and "body.3" in n]
    assert len(kernels) == 3
    trained(td)


class Tree(nn.Module):
    """A block whose pooled input is projected for the sum, and joined as it is behind it."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = unit(width_in, width, stride)
        self.pool = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.project = nn.Conv2d(width_in, width, 1) if width > width_in else nn.Identity()
        self.root = nn.Conv2d(width + width_in, width, 1)
        self.block = unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        down = self.pool(x)
        y = self.conv(x) + self.project(down)
        joined = self.root(torch.cat((y, down), 1)).relu()
        out: Tensor = joined + self.block(joined)
        return out


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_shortcut_that_shares_its_pooling_is_upsampled_with_it(arrangement: Arrangement) -> None:
    td = to_topdown(staged(Tree, 8, 16, 32), input_size=SIZE, arrangement=arrangement)
    assert "replaced" not in str(td.plan)
    trained(td)


def test_what_is_no_module_is_said_to_be_none() -> None:
    with pytest.raises(TraceError, match="a function") as caught:
        to_topdown(F.relu, input_size=SIZE)  # type: ignore[arg-type]
    assert "torch.nn.Module" in str(caught.value)


class Widening(nn.Module):
    """A block that adds its input to the first of its channels."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv, self.width_in, self.stride = unit(width_in, width, stride)[:2], width_in, stride

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.relu())
        if self.stride == 1:
            out[:, : self.width_in] += x
        return out


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_sum_with_some_channels_follows_their_width(arrangement: Arrangement) -> None:
    shapes = [(8, 8, 1), (8, 16, 2), (16, 20, 1), (20, 32, 2), (32, 40, 1)]
    body = nn.Sequential(unit(3, 8), *(Widening(*shape) for shape in shapes))
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 7))
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert not td.plan.opaque
    trained(td)


class Context(nn.Module):
    """What a gate does to a vector (N, C, 1, 1), with a norm over all of its dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.LayerNorm([width, 1, 1])
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate(x)
        return y


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_norm_over_several_dimensions_is_as_wide_as_the_long_one(
    arrangement: Arrangement,
) -> None:
    td = to_topdown(blocks(Context), input_size=SIZE, arrangement=arrangement)
    for norm in (m for m in td.modules() if isinstance(m, nn.LayerNorm)):
        assert norm.normalized_shape == tuple(norm.weight.shape)
        assert norm.normalized_shape[0] > 1
    trained(td)


class Tokens(nn.Module):
    """Stages of token layers; the map is laid out at the end by a number in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(3, 8), unit(8, 8), unit(8, 16, 2), unit(16, 32, 2))
        self.mix, self.more, self.fc = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2).transpose(1, 2)
        x = x + self.mix(x)
        x = x + self.more(x)
        side = SIZE[1] // 4
        laid_out = x.reshape(x.shape[0], side, side, x.shape[2]).permute(0, 3, 1, 2)
        logits: Tensor = self.fc(laid_out.mean((2, 3)))
        return logits


def test_a_map_that_is_laid_out_by_numbers_is_pooled_to_them() -> None:
    with pytest.warns(UserWarning, match="lays out a 8x8 map; .* since its code holds these"):
        td = to_topdown(Tokens(), input_size=SIZE, output_stride=1)
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)
    trained(td)


class Unflattened(Tokens):
    """The map is laid out by the sizes that it had."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        tokens = x.flatten(2).transpose(1, 2)
        for _ in range(2):
            tokens = tokens + self.mix(tokens)
        logits: Tensor = self.fc(tokens.transpose(1, 2).unflatten(2, x.shape[2:]).mean((2, 3)))
        return logits


def test_a_map_that_is_laid_out_by_its_sizes_is_not_pooled() -> None:
    td = to_topdown(Unflattened(), input_size=SIZE, output_stride=2)
    assert not any("lays out" in warning for warning in td.plan.warnings)
    trained(td)


class Halves(nn.Module):
    """One half of the channels passes a convolution; an odd one would be the first half's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = unit(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2 + x.shape[1] % 2
        return torch.cat((x[:, :half], self.conv(x[:, half:])), 1)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_half_that_is_rounded_up_is_a_half(arrangement: Arrangement) -> None:
    td = to_topdown(blocks(Halves), input_size=SIZE, arrangement=arrangement)
    assert not td.plan.opaque
    trained(td)


class Streams(nn.Module):
    """Two streams from the image to the head, each of which is computed from both (i-RevNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.PixelUnshuffle(2)
        self.first, self.second = nn.Conv2d(12, 12, 3, 1, 1), nn.Conv2d(48, 48, 3, 1, 1)
        self.fc = nn.Linear(96, 7)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.down(x), self.down(x)
        one, two = two, one + self.first(two)
        one, two = self.down(one), self.down(two)
        one, two = two, one + self.second(two)
        logits: Tensor = self.fc(torch.cat((one, two), 1).mean((2, 3)))
        return logits


def test_streams_that_stay_two_are_said_to_cross_every_change_of_resolution() -> None:
    with pytest.raises(StructureError, match="several maps cross every change") as caught:
        to_topdown(Streams(), input_size=SIZE)
    assert "'first' (stride 2), 'second' (stride 4)" in str(caught.value)
