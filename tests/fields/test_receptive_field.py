"""Receptive fields in numbers that are known: by hand, from the paper, from gradients elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import (
    Operator,
    Reach,
    StructureError,
    Taps,
    receptive_field,
    register_operator,
)
from td_transform.operators import registry, rules
from td_transform.torchvision_cpu import import_torchvision
from tests.networks import TOPOLOGIES

SIZE = (3, 64, 64)
models = import_torchvision().models


def conv(kernel: int, stride: int = 1, channels: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, kernel, stride, kernel // 2, **options)


class TwoPaths(nn.Module):
    """3||5, then 3x3."""

    def __init__(self, *before: nn.Module) -> None:
        super().__init__()
        channels = 4 if before else 3
        self.before = nn.Sequential(*before)
        self.small, self.large = conv(3, channels=channels), conv(5, channels=channels)
        self.after = conv(3, channels=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(self.small(x) + self.large(x))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, self.weight, padding=1)), kernel_size=2)
        return F.interpolate(F.avg_pool2d(x, 3, 1, 1), scale_factor=2, mode="nearest")


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, stride=2, padding=1)


# name: network, input size, last field (min, max), stride, start of the first position
KNOWN: dict[str, tuple[nn.Module, tuple[int, int], str, int]] = {
    "3||5 then 3": (TwoPaths(), (5, 7), "1", -3),
    "3, 3||5, then 3": (TwoPaths(conv(3)), (7, 9), "1", -4),
    "stride 2, then upsampled": (nn.Sequential(conv(3, 2), nn.Upsample(scale_factor=2)), (3, 3), "1", -1),
    "identity": (nn.Sequential(conv(3), nn.Identity(), conv(3, channels=4)), (5, 5), "1", -2),
    "dilation": (nn.Conv2d(3, 4, 3, padding=2, dilation=2), (5, 5), "1", -2),
    "transposed": (nn.ConvTranspose2d(3, 4, 4, 2, 1), (2, 2), "1/2", -1),
    "transposed, functional": (Transposed(), (2, 2), "1/2", -1),
    "functional": (Functional(), (8, 8), "1", -3),
    "strided projection": (nn.Conv2d(3, 4, 1, 2), (1, 1), "2", 0),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 2), "1/2", -1),
    "antialiased by half": (nn.Sequential(nn.PixelUnshuffle(2)), (2, 2), "2", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known(name: str) -> None:
    network, sizes, stride, start = KNOWN[name]
    fields = receptive_field(network, SIZE)
    row = list(fields.values())[-1]
    assert (row.size_min, row.size_max) == ((sizes[0],) * 2, (sizes[1],) * 2)
    assert tuple(map(str, row.stride)) == (stride, stride)
    assert row.start == (start, start)


def test_axes_are_independent() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, (1, 7), (2, 1), (0, 3)), nn.MaxPool2d((3, 1), (1, 2)))
    row = receptive_field(network, (3, 40, 30))["1"]
    assert (row.size_max, row.output_size) == ((5, 7), (18, 15))
    assert tuple(map(int, row.stride)) == (2, 2)
    assert row.start == (0, -3)


def test_golden_vgg16() -> None:
    assert receptive_field(models.vgg16().features, (3, 224, 224))["30"].size_max == (212, 212)


def test_golden_resnet18() -> None:
    fields = receptive_field(models.resnet18(), (3, 224, 224))
    row = fields["layer4"]
    assert (row.size_min, row.size_max, row.start) == ((11, 11), (435, 435), (-217, -217))
    assert (row.module_path, row.operator) == ("layer4.1.relu", "ReLU")
    assert [fields[f"layer{i}"].size_max[0] for i in (1, 2, 3)] == [43, 99, 211]


class PaperBottomUp(nn.Sequential):
    """Fig. 2's example: 3x3, pool 2, 3x3, pool 2, 3x3."""

    def __init__(self) -> None:
        super().__init__(
            conv(3), nn.MaxPool2d(2), conv(3, channels=4), nn.MaxPool2d(2), conv(3, channels=4)
        )


class PaperTopDown(nn.Module):
    """Its counterpart: each coarser input is blurred by a window of 6 sigma = 4 taps, then halved."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(3, 3, 4, 2, 1, groups=3)
        self.lifts = nn.ModuleList(conv(3) for _ in range(3))
        self.deeper = conv(3, channels=4)

    def forward(self, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = self.blur(fine)
        coarse = self.blur(middle)
        first = self.lifts[0](coarse)
        second = self.deeper(F.interpolate(first, scale_factor=2) + self.lifts[1](middle))
        return first, second, F.interpolate(second, scale_factor=2) + self.lifts[2](fine)


def test_the_papers_own_check() -> None:
    """Section 3.2: BU 3 and 18; TD 12 sigma + 2 = 10, 12 sigma + 10 = 18, 3 with 12 sigma + 14 = 22."""
    bottom_up = receptive_field(PaperBottomUp(), SIZE)
    assert [bottom_up[name].size_max[0] for name in ("0", "4")] == [3, 18]
    top_down = receptive_field(PaperTopDown(), SIZE)
    assert top_down["blur_1"].size_max == (10, 10)
    assert top_down["lifts.0"].size_max == (18, 18)
    last = list(top_down.values())[-1]
    assert (last.size_min, last.size_max) == ((3, 3), (22, 22))


def test_positions_differ_after_an_upsampling() -> None:
    """Nearest by two, then 3x3: a position reads its own coarse pixel and one neighbour."""
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), conv(3))
    fields = receptive_field(network, SIZE)
    assert fields.box("2", (10, 11)) == (8, 10, 12, 14)
    assert fields["2"].size_max == (4, 4)
    assert fields.box("2", (0, 0)) == (0, 0, 2, 2)


def test_adaptive_pooling_has_true_windows() -> None:
    fields = receptive_field(nn.AdaptiveAvgPool2d((3, 1)), (3, 10, 20))
    assert [fields.box("", (i, 0))[::2] for i in range(3)] == [(0, 4), (3, 7), (6, 10)]
    row = list(fields.values())[-1]
    assert (row.stride[1], row.size_max[1]) == (None, 20)


def test_boxes_are_cut_at_the_border() -> None:
    fields = receptive_field(conv(5), SIZE)
    assert fields.box("", (0, 0)) == (0, 0, 3, 3)
    assert fields.box("", (63, 30)) == (61, 28, 64, 33)


def test_squeeze_excite_is_reported_apart() -> None:
    fields = receptive_field(TOPOLOGIES["squeeze-excite"](), (3, 64, 64))
    row = fields["1"]
    assert row.gated
    assert row.covers_image
    assert row.size_max == (7, 7)
    assert fields.box("1", (30, 30)) == (27, 27, 34, 34)
    assert fields.box("1", (30, 30), gates=True) == (0, 0, 64, 64)


def test_what_padding_made_sees_nothing() -> None:
    network = nn.Sequential(conv(3), nn.GroupNorm(2, 4), nn.ZeroPad2d(2))
    fields = receptive_field(network, SIZE)
    assert fields.box("2", (1, 30), gates=True) == (0, 0, 0, 0)
    assert fields.box("2", (2, 30), gates=True) == (0, 0, 64, 64)
    assert not fields["2"].covers_image


def test_group_norm_sees_the_whole_map() -> None:
    fields = receptive_field(nn.Sequential(conv(3), nn.GroupNorm(2, 4)), SIZE)
    assert fields["1"].gated
    assert not fields["0"].covers_image


def test_a_split_keeps_each_branch_its_own_field() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3), conv(7)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            joined = F.relu(torch.cat([self.a(x), self.b(x)], 1))
            left, right = joined.chunk(2, dim=1)
            return left, right

    rows = list(receptive_field(Split(), SIZE).values())
    assert [row.size_max[0] for row in rows[-2:]] == [3, 7]


class Roll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, 1, 3)


class Sinc(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(x)


class Blocks(nn.Module):
    """Windows of the map go to the batch."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h // 2, 2, w).permute(0, 2, 1, 3, 4).reshape(n * (h // 2), c, 2, w)


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.transpose(2, 3)


def test_an_unknown_operator_that_takes_the_map_apart_may_read_all_of_it() -> None:
    row = next(row for row in receptive_field(Blocks(), SIZE).values() if row.operator == "opaque")
    assert row.covers_image


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Symmetric(), r"node 'add'.*a map joined with a transposed one; expected a use of"),
    ],
)
def test_uses_without_a_rule(module: nn.Module, text: str) -> None:
    with pytest.raises(StructureError, match=text):
        receptive_field(module, SIZE)


def test_users_register_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A roll by one pixel reads its left neighbour, and the last one at the border."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    left = Taps(((-1,),), 1, "circular")
    operator = Operator("roll", "inert", rules.keep, reach=lambda call: Reach((Taps(), left)))
    register_operator(torch.roll, operator)
    fields = receptive_field(Roll(), SIZE)
    assert fields.box("roll", (5, 5)) == (5, 4, 6, 5)
    assert fields.box("roll", (5, 0)) == (5, 63, 6, 64)


def test_several_outputs_will_do() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3), conv(3, 2, channels=4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.a(x)
            return {"fine": x, "coarse": self.b(x)}

    assert receptive_field(Backbone(), SIZE)["b"].size_max == (5, 5)


def test_segmentation_models() -> None:
    """Dilated stages, pooled context and a bilinear upsampling to the image's own size."""
    model = models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    fields = receptive_field(model, (3, 96, 96))
    last = list(fields.values())[-1]
    assert last.output_size == (96, 96)
    assert last.gated
