"""Habits of researchers' code, found in the third batch of their repositories (docs/zoo_others.md)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from td_transform import to_topdown
from td_transform.analyse import analyse
from td_transform.errors import TraceError
from td_transform.options import Arrangement
from td_transform.trace import trace

ARRANGEMENTS: tuple[Arrangement, ...] = ("td", "uniform", "reversed")
MEAN = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
GAIN = torch.tensor([2.0])


def unit(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]


class Padded(nn.Module):
    """A block whose shortcut is padded by a tensor of torch's first constructor (PyramidNet)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(c_in, c_out, stride), unit(c_out, c_out))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if y.shape != x.shape:
            x = F.avg_pool2d(x, 1, stride=self.stride)
            zeros = torch.Tensor(x.size(0), y.size(1) - x.size(1), x.size(2), x.size(3)).zero_()
            x = torch.cat([x, zeros], dim=1)
        return x + y


class Constants(nn.Module):
    """Tensors that stand beside the model, of several numbers and of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = unit(3, 4), unit(4, 8), unit(8, 8)
        self.head = nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x - MEAN)
        x = self.second(F.max_pool2d(x * GAIN, 2))
        return self.head(self.third(F.max_pool2d(x, 2)) * torch.FloatTensor([3.0]))  # type: ignore[no-any-return]


class Layered(nn.Module):
    """A stage whose blocks are added in its own forward, with what lowers the resolution at its end
    (ConvMLP, FasterViT)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(unit(width, width), unit(width, width)) for _ in range(blocks)
        )
        self.downsample = nn.Conv2d(width, 2 * width, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.downsample(x)  # type: ignore[no-any-return]


NETWORKS = {
    "padded": nn.Sequential(
        unit(3, 4), Padded(4, 4, 1), Padded(4, 8, 2), Padded(8, 8, 1), Padded(8, 16, 2),
        Padded(16, 16, 1), *head(16),
    ),
    "constants": Constants(),
}  # fmt: skip


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_they_run_at_any_batch_and_every_parameter_learns(
    name: str, arrangement: Arrangement
) -> None:
    td = to_topdown(NETWORKS[name], input_size=(3, 16, 16), arrangement=arrangement)
    for batch in (2, 5):
        td(torch.rand(batch, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None for p in td.parameters())


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_before_a_strided_convolution_are_the_stage_that_they_lie_in(blocks: int) -> None:
    model = nn.Sequential(
        unit(3, 4, 2), Layered(4, blocks), Layered(8, 2), Layered(16, 2), *head(32)
    )
    found = analyse(trace(model, (3, 32, 32)))
    widths = [(s.stride, found.trunk.width(s.segments[-1].end)) for s in found.stages]
    assert widths == [(2, 4), (4, 8), (8, 16), (16, 32)][-len(widths) :]
    assert len(widths) == 4
    td = to_topdown(model, input_size=(3, 32, 32), output_stride=2)
    assert td(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    convolutions = [
        m for n, m in td.named_modules() if ".blocks." in n and isinstance(m, nn.Conv2d)
    ]
    assert len(convolutions) == 2 * (blocks + 4)


class Hidden(nn.Module):
    """A layer in a plain list, which is no part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = unit(3, 4), unit(4, 8)
        self.hidden = [nn.Conv2d(4, 4, 3, padding=1)]
        self.head = nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden[0](self.first(x)))
        return self.head(self.second(F.max_pool2d(x, 2)))  # type: ignore[no-any-return]


def test_a_trained_layer_in_a_plain_list_is_refused_and_a_frozen_one_kept() -> None:
    model = Hidden()
    with pytest.raises(
        TraceError, match=r"none of the model's.*nn\.ModuleList.*requires_grad_\(False"
    ):
        to_topdown(model, input_size=(3, 16, 16))
    model.hidden[0].requires_grad_(False)
    td = to_topdown(model, input_size=(3, 16, 16))
    weight = model.hidden[0].weight
    assert any(b.shape == weight.shape and torch.equal(b, weight) for b in td.buffers())


class Projected(nn.Module):
    """A block with a projection and the pooling inside (ResNet-12 of few-shot learning)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(c_in, c_out), nn.Conv2d(c_out, c_out, 3, 1, 1))
        self.projection = nn.Conv2d(c_in, c_out, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.body(x) + self.projection(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("pooled", [True, False])
def test_without_a_layer_behind_it_the_last_block_is_a_stage_and_no_classifier(
    pooled: bool,
) -> None:
    blocks = [Projected(3, 4), Projected(4, 8), Projected(8, 16)]
    units = [nn.MaxPool2d(2), unit(4, 8), nn.MaxPool2d(2), unit(8, 16), nn.MaxPool2d(2)]
    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else [nn.Flatten()]
    model = nn.Sequential(*(blocks if pooled else [unit(3, 4), *units]), *ends)
    td = to_topdown(model, input_size=(3, 16, 16))
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 16), (2, 8), (1, 4)]


class Halved(nn.Module):
    """A trunk called in two parts, for the maps between them (DeepLab)."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [
            Padded(4, 4, 2),
            Padded(4, 4, 1),
            Padded(4, 8, 2),
            Padded(8, 8, 1),
            Padded(8, 16, 2),
        ]
        self.features = nn.Sequential(unit(3, 4), *blocks)
        self.low, self.high = self.features[:3], self.features[3:]
        self.head = nn.Sequential(*head(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.high(self.low(x)))  # type: ignore[no-any-return]


def test_a_trunk_in_two_modules_has_its_stages_in_both() -> None:
    found = analyse(trace(Halved(), (3, 32, 32)))
    assert [stage.stride for stage in found.stages] == [2, 4, 8]


class Summed(nn.Module):
    """A convolution whose kernel is a sum (DO-Conv)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.more = nn.Parameter(torch.zeros(c_out, c_in, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel + self.more, padding=1)


def test_a_classifier_unit_whose_kernel_is_a_sum_is_one() -> None:
    stages = [unit(3, 4), nn.MaxPool2d(2), unit(4, 8), unit(8, 8), Summed(8, 5), nn.ReLU()]
    model = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    td = to_topdown(model, input_size=(3, 16, 16))
    assert [(level.stride, level.width) for level in td.plan.levels] == [(2, 8), (1, 4)]
    assert td(torch.rand(2, 3, 16, 16)).shape == (2, 5)


def test_a_padded_shortcut_alone_in_the_coarsest_stage_follows_a_narrower_lift() -> None:
    model = nn.Sequential(
        unit(3, 4), Padded(4, 4, 1), Padded(4, 8, 2), Padded(8, 16, 2), *head(16)
    )  # fmt: skip
    td = to_topdown(model, input_size=(3, 16, 16))
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 16), (2, 8), (1, 4)]
    assert td.plan.levels[0].lift.width_out == 8


class Shortened(Padded):
    """The same, padded by as many channels as its code says."""

    def forward(self, x: Tensor) -> Tensor:
        y, added = self.body(x), len(self.body[0][0].weight) - self.body[0][0].in_channels
        if added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, added))
        return x + y


@pytest.mark.parametrize("kind", [Padded, Shortened])
def test_where_no_lift_is_narrow_enough_it_has_the_form_of_a_block_that_keeps_its_width(
    kind: type[Padded],
) -> None:
    model = nn.Sequential(unit(3, 4), kind(4, 4, 1), kind(4, 8, 2), kind(8, 16, 2), *head(16))
    td = to_topdown(model, input_size=(3, 16, 16), arrangement="uniform")
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 8), (2, 8), (1, 8)]
    assert td(torch.rand(2, 3, 16, 16)).shape == (2, 5)


class TokenPool(nn.Module):
    """CLIP's pooling as timm writes it: all tokens are projected, then the first is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(4 * 4 + 1, 16))
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.proj = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions
        q, k, v = (
            layer(x).reshape(n, h * w + 1, 2, c // 2).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w + 1, -1)
        return self.proj(x)[:, 0]  # type: ignore[no-any-return]


def test_positions_that_are_added_make_no_block_of_a_classifier() -> None:
    model = nn.Sequential(
        unit(3, 4), Padded(4, 4, 1), Padded(4, 8, 2), Padded(8, 16, 2), TokenPool()
    )  # fmt: skip
    td = to_topdown(model, input_size=(3, 16, 16))
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 16), (2, 8), (1, 4)]


class Guided(nn.Module):
    """GCViT: a stage begins with a residual convolution and a strided one; all its blocks read what the
    stage's first map is made into."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.residual = nn.Conv2d(c_in, c_in, 3, 1, 1)
        self.reduction = nn.Conv2d(c_in, c_out, 3, 2, 1)
        self.query = nn.Conv2d(c_out, c_out, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(c_out, c_out, 3, 1, 1) for _ in range(2))
        self.last = nn.Conv2d(c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(x + self.residual(x).relu())
        query = self.query(x).sigmoid()
        for block in self.blocks:
            x = x + block(x).relu() * query
        return x + self.last(x).relu()


def test_what_reads_all_of_a_stage_is_no_part_of_its_strided_convolution() -> None:
    model = nn.Sequential(
        unit(3, 4), Guided(4, 8), Guided(8, 16), Guided(16, 32), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip
    td = to_topdown(model, input_size=(3, 32, 32), output_stride=2)
    assert [level.width for level in td.plan.levels][:3] == [32, 16, 8]
    coarsest = [type(m) for m in td.levels[0].modules() if isinstance(m, nn.Conv2d)]
    assert len(coarsest) == 5  # the lift, the query, two blocks, the last


class Partial(nn.Module):
    """A CSP stage: a strided convolution, then half of the channels pass a convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.down, self.part = unit(c_in, c_out, 2), unit(c_out // 2, c_out // 2)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = self.down(x).chunk(2, 1)
        return torch.cat([kept, self.part(x)], 1)


def test_a_strided_convolution_stays_with_its_own_stages_branches() -> None:
    model = nn.Sequential(unit(3, 4), Partial(4, 8), Partial(8, 16), Partial(16, 32), *head(32))
    td = to_topdown(model, input_size=(3, 16, 16), output_stride=2)
    coarsest = [module for module in td.levels[0].modules() if isinstance(module, nn.Conv2d)]
    assert len(coarsest) == 3  # the lift, and both of the stage's
