"""Single rules of the transformation that no count of parameters would notice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import TopDownNetwork, plan_topdown, to_topdown
from td_transform.plan import SegmentPlan
from tests.paper_networks import STYLES
from tests.transform.oddities import Shuffled
from tests.transform.plain import Residual


class Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + (x if self.down is None else self.down(x))).relu()


def resnet() -> nn.Module:
    """A stem at stride 2 and stages at strides 2, 4, 8."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(),
        Block(8, 8), Block(8, 8), Block(8, 16, 2), Block(16, 16), Block(16, 32, 2), Block(32, 32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip


def targets(td: TopDownNetwork, ending: str) -> list[str]:
    return [str(n.target) for n in td.graph.nodes if str(n.target).endswith(ending)]


def test_a_lift_at_the_coarsest_bottom_up_stride_opens_the_network() -> None:
    plan = plan_topdown(resnet(), input_size=(3, 32, 32))
    assert [level.stride for level in plan.levels] == [8, 4, 2, 1]
    assert [level.made_from for level in plan.levels] == [None, 3, 2, 1]
    own = plan_topdown(resnet(), input_size=(3, 32, 32), output_stride=2)
    assert [level.stride for level in own.levels] == [8, 4, 2]
    assert [level.made_from for level in own.levels] == [3, 2, 1]


def test_both_paths_of_a_block_share_one_upsampling() -> None:
    """With identity shortcuts (uniform widths) both read the same tensor at the finer resolution."""
    td = to_topdown(resnet(), input_size=(3, 32, 32), output_stride=2, arrangement="uniform")
    upsamplings = targets(td, ".upsample")
    assert upsamplings == ["levels.1.upsample", "levels.2.upsample"]


@pytest.mark.parametrize("style", ["modules", "functional"])
def test_what_stands_beside_a_pooling_stays_on_its_coarse_side(style: str) -> None:
    td = to_topdown(STYLES["NIN-light"][style](), input_size=(1, 28, 28))
    modules = dict(td.named_modules())
    order = [
        type(modules[str(n.target)]).__name__
        for n in td.graph.nodes
        if n.op == "call_module"
        if type(modules[str(n.target)]).__name__ in ("Dropout", "Upsample")
    ]
    assert order == ["Dropout", "Upsample"] * 2


def test_the_first_block_has_identity_shortcuts() -> None:
    td = to_topdown(resnet(), input_size=(3, 32, 32), output_stride=2)
    first = td.levels[0].stage
    assert not [name for name, _ in first.named_modules() if name.endswith("down")]
    assert td(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_the_uniform_width_is_one_that_every_block_can_split() -> None:
    """The median of 12 and 30 is 21; what has three groups of channels takes the multiple of 3 next
    to it, what has six the multiple of 6."""
    for groups, width in ((1, 21), (2, 20), (3, 21), (6, 18)):
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), Residual(Shuffled(12, groups)),
            nn.Conv2d(12, 30, 3, 2, padding=1), nn.ReLU(), Residual(Shuffled(30, groups)),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(30, 7),
        )  # fmt: skip
        plan = plan_topdown(model, input_size=(3, 32, 32), arrangement="uniform")
        assert [level.width for level in plan.levels] == [width, width]


class Dense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.norm(x).relu())], 1)


def test_a_unit_before_a_pooling_carries_the_next_stages_width() -> None:
    """DenseNet: norm-act-conv (1x1) halves the width, then comes the pooling."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        Dense(16), Dense(24), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.AvgPool2d(2),
        Dense(16), Dense(24), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.AvgPool2d(2),
        Dense(16), Dense(24), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip
    plan = plan_topdown(model, input_size=(3, 32, 32))
    carried = [
        part.layers[-1].source
        for level in plan.levels
        for part in level.transition
        if isinstance(part, SegmentPlan)
    ]
    assert carried == ["5"]


class PooledBlock(nn.Module):
    """Strides by poolings, in its body and in its shortcut (as CLIP's ResNets do)."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(width_in, width, 1), nn.BatchNorm2d(width))
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(width_in, width, 1), nn.BatchNorm2d(width)
            )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.pool(self.conv1(x)))
        return self.act(y + self.shortcut(x))


def test_the_first_block_has_its_own_layers_in_the_repeated_blocks_form() -> None:
    """More than one stretch of the block goes: both poolings, and the projection."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        PooledBlock(8, 8), PooledBlock(8, 16, 2), PooledBlock(16, 16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
    )  # fmt: skip
    plan = plan_topdown(model, input_size=(3, 32, 32))
    first = plan.levels[0].stage[0]
    assert isinstance(first, SegmentPlan)
    sources = [node.layer.source for node in first.nodes if node.layer is not None]
    assert sources == [
        "4.conv1.0", "4.conv1.1", "5.pool", "4.conv2.0", "4.conv2.1", "5.shortcut", "4.act",
    ]  # fmt: skip
    assert all(
        node.layer.name.startswith("levels.0.stage.4.") for node in first.nodes if node.layer
    )


class Pooled(nn.Module):
    """Blocks of a convolution and a pooling that is called as a function, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.mix = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.coarse, self.more = nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fine(input=x))
        x = F.relu(self.mix(x) + F.max_pool2d(x, 3, 1, 1, dilation=2))
        x = F.relu(self.coarse(input=x))
        x = F.relu(self.more(x) + F.avg_pool2d(x, 3, 1, count_include_pad=False))
        return self.head(x.mean((2, 3)))


def test_poolings_as_functions_keep_their_arguments() -> None:
    td = to_topdown(Pooled(), input_size=(3, 32, 32))
    assert td(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    pools = [m for m in td.levels.modules() if isinstance(m, (nn.MaxPool2d, nn.AvgPool2d))]
    assert [m.padding for m in pools] == [(1, 1), 0]
    assert isinstance(pools[0], nn.AvgPool2d)
    assert isinstance(pools[1], nn.MaxPool2d)
    assert not pools[0].count_include_pad
    assert pools[1].dilation == 2
