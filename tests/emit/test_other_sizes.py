"""A network that is called at another image size than it was converted for runs, or says why not."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import to_topdown
from td_transform.errors import TopDownError
from tests.transform.plain import unit

SIZE = (3, 32, 32)


class Table(nn.Module):
    """Adds a table that is as large as the map was."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(16, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Frozen(nn.Module):
    """Computes with the size of the map as a number that the recording keeps."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(int(x.shape[2]), 1)


class Patches(nn.Module):
    """Means of patches of 2 x 2, of a map that is enlarged to even sides where they are odd (MobileViT)."""

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        even = [math.ceil(side / 2) * 2 for side in sides]
        y = F.interpolate(x, even, mode="bilinear") if even != list(sides) else x
        y = y.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5), keepdim=True)
        y = y.expand(-1, -1, -1, 2, -1, 2).flatten(4).flatten(2, 3)
        return x * (F.interpolate(y, sides, mode="bilinear") if even != list(sides) else y)


def network(middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        unit(3, 8), unit(8, 16, 2), unit(16, 16), middle, unit(16, 16), unit(16, 32, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )  # fmt: skip


@pytest.mark.parametrize(
    "kept", [lambda td: td, copy.deepcopy, lambda td: pickle.loads(pickle.dumps(td))]
)
def test_what_does_not_run_at_another_size_is_named(kept, capsys) -> None:  # type: ignore[no-untyped-def]
    td = kept(to_topdown(network(Table()), input_size=SIZE))
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)
    with pytest.raises(TopDownError) as caught:
        td(torch.rand(2, 3, 40, 32))
    assert str(caught.value) == (
        "images: 40x32 of them, at which node 'add' of level 1 does not run; expected 32x32, as the "
        "network was converted for. Remedy: pass images of 32x32, or convert the model with "
        "input_size=(3, 40, 32) where it runs on such images itself"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert capsys.readouterr().err == ""


def test_what_is_frozen_is_said() -> None:
    td = to_topdown(network(Frozen()), input_size=SIZE)
    with pytest.raises(TopDownError, match=r"32x32, as .*; frozen at images of 32x32: .*Remedy"):
        td(torch.rand(2, 3, 34, 34))


def test_errors_at_its_own_size_are_its_own() -> None:
    td = to_topdown(network(nn.Identity()), input_size=SIZE).double()
    with pytest.raises(RuntimeError, match="type"):
        td(torch.rand(2, *SIZE))


def test_what_is_not_the_size_s_fault_stays_what_it_is() -> None:
    td = to_topdown(network(nn.Identity()), input_size=SIZE)
    with pytest.raises(RuntimeError, match="type"):
        td(torch.rand(2, 3, 40, 40).double())

    def full(module: nn.Module, args: object) -> None:
        raise torch.OutOfMemoryError("no memory is left")

    td.pyramid.register_forward_pre_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        td(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("size", [(3, 34, 34), (3, 33, 38)])
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_map_that_is_enlarged_within_a_block_is_made_smaller_again(size, arrangement) -> None:  # type: ignore[no-untyped-def]
    """The way back was taken for a downsampling, which loses its stride."""
    model = network(Patches())
    td = to_topdown(model, input_size=size, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    td(torch.rand(2, *size)).sum().backward()
