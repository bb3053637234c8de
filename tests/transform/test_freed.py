"""Nothing keeps a model, or what was made of it, alive: a sweep over many stays small."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from td_transform import plan_topdown, receptive_field, tiled, to_topdown
from td_transform.cost import measure
from tests.networks import residual

SIZE = (3, 32, 32)


def trained(model: nn.Module) -> nn.Module:
    td = to_topdown(model, input_size=SIZE)
    td(torch.rand(2, *SIZE)).sum().backward()
    return td


USES: dict[str, Callable[[nn.Module], object]] = {
    "plan_topdown": lambda model: plan_topdown(model, input_size=SIZE),
    "to_topdown": lambda model: to_topdown(model, input_size=SIZE),
    "a memory budget": lambda model: to_topdown(model, input_size=SIZE, memory_budget=0.5),
    "a training step": trained,
    "measure": lambda model: measure(model, SIZE),
    "measure of the network": lambda model: measure(to_topdown(model, input_size=SIZE), SIZE),
    "receptive_field": lambda model: receptive_field(model, SIZE),
    "tiled": lambda model: tiled(to_topdown(model, input_size=SIZE).eval(), tile=16),
}


@pytest.mark.parametrize("use", list(USES))
def test_freed(use: str) -> None:
    alive = traces_of(USES[use])
    gc.collect()
    assert [
        type(module).__name__ for reference in alive if (module := reference()) is not None
    ] == []


def traces_of(use: Callable[[nn.Module], object]) -> list[weakref.ref[nn.Module]]:
    """References to the model and to whatever module was made of it."""
    before = {id(m) for m in gc.get_objects() if isinstance(m, nn.Module)}
    model = residual()
    made = use(model)
    after = [m for m in gc.get_objects() if isinstance(m, nn.Module) and id(m) not in before]
    assert model in after
    assert made is not None
    return [weakref.ref(module) for module in after]
