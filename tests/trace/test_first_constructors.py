"""Torch's first types, ``torch.FloatTensor``: recorded for every image, and untouched afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.autograd import Variable

from td_transform.operators import module_operator
from td_transform.trace import make_skeleton
from td_transform.trace.recording import record

Function = Callable[[Tensor], Tensor]


class Given(nn.Module):
    """A layer, and a function of its map."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def padded(x: Tensor, zeros: Tensor) -> Tensor:
    return torch.cat((x, zeros), 1)


WRITTEN = {
    "Tensor": lambda x: padded(x, torch.Tensor(x.size(0), 2, x.size(2), x.size(3)).zero_()),
    "FloatTensor": lambda x: padded(
        x, Variable(torch.FloatTensor(x.size(0), 2, *x.shape[2:]).fill_(0))
    ),
    "of a shape": lambda x: padded(x, torch.Tensor(x.size()).zero_()),
    "of numbers": lambda x: x * torch.Tensor([2.0]),
    "type": lambda x: x * (x > 0).type(torch.FloatTensor),
    "type's name": lambda x: x * (x > 0).type("torch.FloatTensor"),
    "another's type": lambda x: x * (x > 0).type(x.type()),
    "dtype": lambda x: x * (x > 0).type(torch.float32),
    "isinstance": lambda x: x * 2 if isinstance(x.data, torch.FloatTensor) else x,
}


def recorded(function: Function) -> fx.GraphModule:
    model = Given(function).eval()
    recording = record(
        make_skeleton(model),
        (3, 8, 8),
        is_leaf=lambda m: module_operator(m) is not None,
        model=model,
    )
    assert recording.notes == ()
    return fx.GraphModule(model, recording.graph)


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "of numbers"])
def test_they_are_recorded_for_other_batches_and_sizes(name: str) -> None:
    runner = recorded(WRITTEN[name])
    for shape in ((2, 3, 8, 8), (5, 3, 12, 10)):
        image = torch.randn(shape)
        assert torch.equal(runner(image), WRITTEN[name](runner.conv(image)))  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["cuda.FloatTensor", "cuda.HalfTensor"])
def test_what_is_written_for_a_gpu_is_made_where_the_image_is(kind: str) -> None:
    def function(x: Tensor) -> Tensor:
        first: Tensor = getattr(torch.cuda, kind.partition(".")[2])(x.size(0), 2, 1, 1)
        return x + first.fill_(3).type(f"torch.{kind}").float().sum(1, keepdim=True)

    runner = recorded(function)
    image = torch.randn(5, 3, 9, 8)
    assert torch.equal(runner(image), runner.conv(image) + 6)  # type: ignore[operator]


def test_the_types_are_torchs_own_again() -> None:
    kinds = torch.FloatTensor, torch.cuda.HalfTensor
    recorded(WRITTEN["Tensor"])
    assert (torch.FloatTensor, torch.cuda.HalfTensor) == kinds
    assert "__new__" not in vars(Tensor)
    assert torch.Tensor(2, 3).shape == (2, 3)
    assert torch.Tensor([1.0]).tolist() == [1.0]
    assert isinstance(nn.Parameter(torch.ones(1)), nn.Parameter)
