"""Autograd functions with a backward of their own are carried along with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, Net, convert, pooled


class Signs(torch.autograd.Function):
    """A straight-through estimator: the sign's own gradient is none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0]


class FrugalSwish(torch.autograd.Function):
    """Its backward is that of its forward, written by hand to keep less."""

    largest = 0  # elements of a tensor with values that it was applied to

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        FrugalSwish.largest = max(FrugalSwish.largest, 0 if x.is_meta else x.numel())
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.sigmoid() * (1 + x * (1 - x.sigmoid())))


class Centred(torch.autograd.Function):
    """Not element-wise; the gradient is that of something else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float) -> Tensor:
        return x - by * x.mean(1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


class Applying(nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.apply_it = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_it(x)


def applying(apply: Callable[[Tensor], Tensor]) -> nn.Module:
    def make(width_in: int, width: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width_in, width, 3, stride, 1), Applying(apply))

    return Net(pooled, make)


def signs(x: Tensor) -> Tensor:
    return Signs.apply(x)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_straight_through_estimator_lets_the_coarsest_level_train(arrangement: str) -> None:
    td = convert(applying(signs), arrangement=arrangement)
    assert not td.plan.frozen
    assert not td.plan.opaque
    td(torch.rand(2, *SIZE)).square().mean().backward()
    gradient = td.get_parameter("levels.0.lift.conv.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_a_function_that_is_not_element_wise_is_opaque() -> None:
    apply = lambda x: Centred.apply(x, 0.5)  # type: ignore[no-untyped-call]  # noqa: E731
    td = convert(applying(apply))
    check_network(td, torch.rand(2, *SIZE), classes=7)
    assert {name.partition(" in ")[0] for name in td.plan.opaque} == {"Centred"}
    assert "Centred" in str(td.levels)


def test_a_backward_written_by_hand_is_told_on_small_tensors() -> None:
    """A network may apply it a hundred times; large tensors are slow, and rounding differs somewhere."""
    apply = lambda x: FrugalSwish.apply(x)  # type: ignore[no-untyped-call]  # noqa: E731
    td = convert(applying(apply))
    assert "FrugalSwish" not in str(td.graph)
    assert "sigmoid" in str(td.graph)
    assert 0 < FrugalSwish.largest <= 4**4
