"""What no rule knows is measured, operator by operator: the whole network's gradient agrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from td_transform import receptive_field
from tests.fields.networks import Apply
from tests.fields.oracle import compare
from tests.transform.odd_attention import MultiheadAttention, Unfold, WindowAttention
from tests.transform.random_parts import Recurrent

SIZE = (3, 24, 32)


class Shift(nn.Module):
    """The left half of the channels moves up, and the right half down."""

    def forward(self, x: Tensor) -> Tensor:
        up, down = x.chunk(2, 1)
        return torch.cat([torch.roll(up, -1, 2), torch.roll(down, 1, 2)], 1)


LOCAL: dict[str, Callable[[], nn.Module]] = {
    "roll": lambda: Apply(torch.roll, shifts=2, dims=3),
    "roll of channels": lambda: Apply(torch.roll, shifts=1, dims=1),
    "flip": lambda: Apply(torch.flip, dims=(2,)),
    "sum from the top": lambda: Apply(torch.cumsum, dim=2),
    "two ways": Shift,
    "sum over channels": lambda: Apply(torch.logcumsumexp, dim=1),
    "reversed channels": lambda: Apply(lambda x: x[:, torch.arange(x.shape[1] - 1, -1, -1)]),
    "an inner operator": lambda: Apply(
        lambda x: torch.ops.aten.avg_pool2d.default(x, [2, 2], [2, 2])
    ),
}


@pytest.mark.parametrize("name", LOCAL)
def test_local(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), LOCAL[name](), nn.Conv2d(4, 4, 3, padding=1)
    )
    fields = receptive_field(net, SIZE)
    assert any(row.measured for row in fields.values())
    assert not any(row.gated for row in fields.values())
    assert "(measured)" in str(fields)
    maps = [name for name in fields if len(fields.trace_shape(name)) == 4]
    assert compare(fields, maps, 6, torch.Generator().manual_seed(0), tolerance=1e-9) > 10


# operators of several results or of complex numbers, and some that read a whole map along one axis
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "gradient": lambda: Apply(lambda x: torch.gradient(x, dim=2)[0]),
    "gradient of channels": lambda: Apply(lambda x: torch.gradient(x, dim=1)[0]),
    "windows": lambda: Apply(lambda x: x.unfold(2, 3, 3).mean(-1)),
    "windows that overlap": lambda: Apply(lambda x: x.unfold(3, 3, 1).mean(-1)),
    "frequencies along a line": lambda: Apply(lambda x: torch.fft.fft(x, dim=2).real),
    "a scale by channel": lambda: Apply(torch.renorm, p=2, dim=1, maxnorm=1.0),
    "tensors as large": lambda: Apply(
        lambda x: torch.broadcast_tensors(x, x.mean(1, keepdim=True))[1]
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_as_the_gradient_has_it(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2),
        OTHERS[name](),
        nn.Conv2d(4, 4, 3, padding=1),
    )
    fields = receptive_field(net, SIZE)
    assert compare(fields, ["_3"], 6, torch.Generator().manual_seed(0), tolerance=1e-9) > 4


def filtered(width: int) -> nn.Module:
    """By frequencies, of which one half is no map."""
    return Apply(lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5 + 1.0, s=x.shape[2:]))


@pytest.mark.parametrize("block", [MultiheadAttention, WindowAttention, Unfold, filtered])
def test_what_mixes_positions_sees_them(block: Callable[[int], nn.Module]) -> None:
    """Where positions go into other dimensions, what they read is a bound: it holds the support."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), block(4)).eval()
    fields = receptive_field(net, SIZE)
    image = torch.rand(1, *SIZE, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(image)[0, :, 5, 9].sum(), image)
    seen = gradient[0].abs().sum(0) > 0
    pooled = fields[""].output_size == (1, 1)
    top, left, bottom, right = fields.box("", (0, 0) if pooled else (5, 9), gates=True)
    outside = seen.clone()
    outside[top:bottom, left:right] = False
    assert seen.any()
    assert not outside.any()


def test_without_a_gradient_the_whole_map_is_a_bound() -> None:
    """Which entry is the largest has none."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Apply(lambda x: x.gather(1, x.argmax(1, keepdim=True))))
    rows = receptive_field(net, SIZE)
    assert not rows["gather"].measured
    assert rows["gather"].covers_image


def test_the_model_is_only_read() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Recurrent(4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    fields = receptive_field(net, SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert fields
