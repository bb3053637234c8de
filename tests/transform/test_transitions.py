"""What lowers the resolution by means that can't be taken from it, and what is read at a fixed size."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import ConversionError, Plan, TopDownNetwork, to_topdown
from td_transform.plan import UnitPlan, UpsamplePlan
from tests.properties import check_network
from tests.transform.oddities import Network, Residual, unit

SIZE = (3, 32, 32)


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return to_topdown(model, input_size=SIZE, **options)


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


def note(plan: Plan) -> list[str]:
    return [line for line in plan.notes if line.startswith("replaced by")]


@pytest.mark.parametrize(
    ("arrangement", "widths"), [("td", [16, 12, 8]), ("uniform", [12, 12, 12])]
)
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


@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 16), ("reversed", 32)])
def test_a_network_without_a_classifier_gives_the_features_of_its_last_map(
    arrangement: str, width: int
) -> None:
    model = Network(head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.warns(UserWarning, match=rf"no learned layer .* 32 channels .* the {width} of"):
        td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    check_network(td, torch.rand(2, *SIZE), classes=width)
