"""What a forward keeps for its next call is kept in the top-down network, or said to be lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import ConversionError, TopDownNetwork, to_topdown
from tests.transform.bodies import SIZE, Net, blocks, pooled, trained
from tests.transform.oddities import unit


class Statistics(nn.Module):
    """A norm by hand, whose statistics are counted up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("calls", torch.zeros(()))

    def count(self, mean: Tensor) -> None:
        with torch.no_grad():
            self.running_mean.mul_(0.9).add_(0.1 * mean)
            self.calls += 1

    def forward(self, x: Tensor) -> Any:
        mean = x.mean((0, 2, 3))
        self.count(mean.detach())
        return x - mean[:, None, None]


class Assigned(Statistics):
    def count(self, mean: Tensor) -> None:
        self.running_mean = 0.9 * self.running_mean + 0.1 * mean
        self.calls = self.calls + 1


class ByData(Statistics):
    def count(self, mean: Tensor) -> None:
        self.running_mean.data = 0.9 * self.running_mean + 0.1 * mean
        self.calls.data = self.calls + 1


class InTraining(Statistics):
    """Its forward doesn't ask for the mode itself, and it isn't without parts."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.ReLU()

    def count(self, mean: Tensor) -> None:
        if self.training:
            super().count(mean)

    def forward(self, x: Tensor) -> Any:
        return self.act(super().forward(x))


@pytest.mark.parametrize("kind", [Statistics, Assigned, ByData, InTraining])
def test_running_statistics_are_counted_on(kind: type[Statistics]) -> None:
    td = to_topdown(
        Net(pooled, lambda i, o, s: nn.Sequential(unit(i, o, s), kind(o))), input_size=SIZE
    )
    assert not td.plan.frozen
    norms = [m for m in td.modules() if isinstance(m, kind)]
    means: dict[nn.Module, Tensor] = {}
    for norm in norms:
        norm.register_forward_pre_hook(lambda m, args: means.update({m: args[0].mean((0, 2, 3))}))
    trained(td)
    assert [float(norm.calls) for norm in norms] == [1.0, 1.0, 1.0]
    for norm in norms:
        norm.running_mean.zero_()
    td.train()(torch.rand(2, *SIZE))
    for norm in norms:
        torch.testing.assert_close(norm.running_mean, 0.1 * means[norm].detach())


class Step(torch.autograd.Function):
    """A spike, with a straight gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0.1).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def plain_step(x: Tensor) -> Tensor:
    return (x > 0.1).to(x)


class Neuron(nn.Module):
    """Its voltage is what the last call left; it has a gradient in training alone."""

    def __init__(self, width: int = 0) -> None:
        super().__init__()
        self.voltage: Any = 0.0
        self.leak = nn.Identity()

    def forward(self, x: Tensor) -> Any:
        charged = self.leak(self.voltage) + x
        step = Step.apply if self.training else plain_step
        spike = step(charged)
        self.voltage = (charged - spike).detach()
        return spike


def neurons(td: TopDownNetwork) -> list[Neuron]:
    return [m for m in td.modules() if isinstance(m, Neuron)]


def test_a_voltage_is_kept_from_call_to_call_and_learns() -> None:
    make = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1), Neuron(), nn.ReLU())  # noqa: E731
    model = Net(pooled, make)
    td = to_topdown(model, input_size=SIZE)
    assert len(neurons(td)) == 2
    image = torch.randn(2, *SIZE)
    first, second = td(image), td(image)
    assert not torch.equal(first, second)
    for neuron in neurons(td):
        neuron.voltage = 0.0
    assert torch.equal(td(image), first)
    assert [m.voltage for m in model.modules() if isinstance(m, Neuron)] == [0.0] * 3
    td(image).sum().backward()
    assert all(p.grad is not None for p in td.parameters())


def test_where_the_gradient_ends_is_said() -> None:
    class Spikes(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return plain_step(x)

    make = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1), Spikes())  # noqa: E731
    line = plain_step.__code__.co_firstlineno + 1
    text = rf"ends at node 'to' in module '[\w.]+' \(.*:{line}\)\).*torch.autograd.Function"
    with pytest.raises(ConversionError, match=text):
        to_topdown(Net(pooled, make), input_size=SIZE)


class Remembering(nn.Module):
    """A block of learned layers that mixes in what it made of the last images."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.unit = unit(width_in, width, stride)
        self.last: Any = None

    def forward(self, x: Tensor) -> Any:
        y = self.unit(x)
        mixed = y if self.last is None else y + self.last.mean()
        self.last = y.detach()
        return mixed


class Showing(nn.Module):
    """A block that leaves its map for others to look at."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.unit = unit(width_in, width, stride)

    def forward(self, x: Tensor) -> Any:
        self.seen = self.unit(x)
        self.sizes = x.shape
        return self.seen


def test_what_a_block_keeps_is_said_to_be_lost() -> None:
    text = (
        r"what the forward keeps in module 'body\.0' \(last\) and 2 more for its next call is lost"
    )
    with pytest.warns(UserWarning, match=text):
        plan = to_topdown(Net(pooled, Remembering), input_size=SIZE).plan
    assert re.search(text, plan.warnings[0])


def test_what_a_block_leaves_for_others_is_a_note() -> None:
    td = to_topdown(Net(pooled, Showing), input_size=SIZE)
    assert td.plan.frozen == (
        "what the forward leaves in module 'body.0' (seen) and 2 more for others to read is left out",
    )


class Table(nn.Module):
    """A table that the first call makes, as large as the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[3]).to(x)
        return x + self.weight * self.table


def test_tables_that_are_found_again_are_nothing_to_lose() -> None:
    plan = to_topdown(blocks(Table), input_size=SIZE).plan
    assert not plan.frozen
    assert not plan.warnings
    assert not plan.opaque


def test_state_of_the_model_itself_is_said_to_be_lost() -> None:
    class Moving(Net):
        def __init__(self) -> None:
            super().__init__(pooled)
            self.register_buffer("centre", torch.zeros(32))

        def forward(self, x: Tensor) -> Any:
            y = self.body(x)
            self.centre = 0.9 * self.centre + 0.1 * y.detach().mean((0, 2, 3))
            return self.head(self, y - self.centre[:, None, None])

    text = "what the forward keeps in the model itself (centre) for its next call is lost"
    with pytest.warns(UserWarning, match=re.escape(text)):
        plan = to_topdown(Moving(), input_size=SIZE).plan
    assert plan.warnings[0].startswith(text)
