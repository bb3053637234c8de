"""Rewritten convolutions give what torch's give, and only the right ones are rewritten."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import to_topdown
from td_transform.inference import rewrite
from td_transform.inference.rewrite import in_fewer_multiplications
from td_transform.inference.runtimes import built
from td_transform.inference.upsampled import OverUpsampled
from td_transform.inference.winograd import Winograd
from tests.networks import TOPOLOGIES


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("tile", "size"), [(2, 2), (2, 3), (4, 2), (4, 3), (4, 5)])
@pytest.mark.parametrize("sides", [(8, 8), (9, 7), (5, 10)])
def test_tiles_give_the_convolution(
    sides: tuple[int, int], tile: int, size: int, padding: int, axes: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, size, padding=padding).double()
    x = torch.rand(2, 3, *sides, dtype=torch.float64)
    with torch.no_grad():
        found = Winograd(conv.weight, conv.bias, padding, tile, axes)(x)
        torch.testing.assert_close(found, conv(x), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sides", [(4, 4), (5, 3), (1, 2)])
def test_a_convolution_over_an_upsampled_map_stays_at_the_coarse_one(
    sides: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    x = torch.rand(2, 3, *sides, dtype=torch.float64)
    with torch.no_grad():
        found = OverUpsampled(conv.weight, conv.bias)(x)
        torch.testing.assert_close(found, conv(F.interpolate(x, scale_factor=2.0)))


class Net(nn.Module):
    """A convolution that may be over an upsampled map, with a norm, and written into afterwards."""

    def __init__(self, *, up: float, cut: int = 0, shared: bool = False, **options: Any) -> None:
        super().__init__()
        self.up, self.cut, self.shared = up, cut, shared
        self.conv = nn.Conv2d(64, 64, **options)
        self.norm = nn.BatchNorm2d(64)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=self.up)
        x = self.conv(x[:, :, : x.shape[2] - self.cut])
        y = self.norm(x)
        y += x if self.shared else 1
        return y.relu_().mean((2, 3))


CASES: dict[str, tuple[dict[str, Any], type[nn.Module] | None]] = {
    "a plain one": ({"up": 1, "kernel_size": 3, "padding": 1}, Winograd),
    "without a bias": ({"up": 1, "kernel_size": 3, "padding": 1, "bias": False}, Winograd),
    "without padding": ({"up": 1, "kernel_size": 5}, Winograd),
    "whose result is read before its norm, too": (
        {"up": 1, "kernel_size": 3, "padding": 1, "shared": True},
        Winograd,
    ),
    "over an upsampled map": ({"up": 2, "kernel_size": 3, "padding": 1}, OverUpsampled),
    "over one that was cut": ({"up": 2, "cut": 1, "kernel_size": 3, "padding": 1}, Winograd),
    "over one upsampled by three": ({"up": 3, "kernel_size": 3, "padding": 1}, Winograd),
    "over one with other padding": ({"up": 2, "kernel_size": 3, "padding": 0}, Winograd),
    "with a stride": ({"up": 1, "kernel_size": 3, "stride": 2}, None),
    "with dilation": ({"up": 1, "kernel_size": 3, "dilation": 2}, None),
    "in groups": ({"up": 1, "kernel_size": 3, "groups": 2}, None),
    "not square": ({"up": 1, "kernel_size": (1, 3)}, None),
    "with padding that is not square": ({"up": 1, "kernel_size": 3, "padding": (0, 1)}, None),
    "too large": ({"up": 1, "kernel_size": 7}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_which_convolutions_are_rewritten(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every transformation is free."""
    monkeypatch.setattr(rewrite, "_TRANSFORMED", 0)
    monkeypatch.setattr(rewrite, "_READ", 0)
    monkeypatch.setattr(rewrite, "_SHUFFLED", 0)
    monkeypatch.setattr(rewrite, "_TILES", (4,) if CASES[name][1] is not OverUpsampled else ())
    torch.manual_seed(0)
    net, x = Net(**CASES[name][0]).eval(), torch.rand(1, 64, 8, 12)
    with torch.no_grad():
        expected = net(x)
        other, changed = in_fewer_multiplications(net, x)
        torch.testing.assert_close(other(x), expected, rtol=1e-4, atol=1e-5)
    kinds = [type(m) for m in other.modules() if isinstance(m, (Winograd, OverUpsampled))]
    assert kinds == ([] if CASES[name][1] is None else [CASES[name][1]])
    assert changed == len(kinds)


@pytest.mark.parametrize(("width", "rewritten"), [(32, 0), (512, 1), (520, 0)])
def test_narrow_convolutions_stay(width: int, rewritten: int) -> None:
    """The transforms of a map grow with its width, what they save with its square.

    Nor does a width change that isn't a multiple of the channels that runtimes lay out as one block.
    """
    with torch.device("meta"):
        net, x = nn.Sequential(nn.Conv2d(width, width, 3, padding=1)), torch.rand(4, width, 32, 32)
    assert in_fewer_multiplications(net.eval(), x)[1] == rewritten


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["chain", "residual", "pre-activation"])
def test_rewritten_networks_run_in_onnxruntime(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for cost in ("_TRANSFORMED", "_READ", "_SHUFFLED"):
        monkeypatch.setattr(rewrite, cost, 0)
    monkeypatch.setattr(rewrite, "_BLOCK", 1)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        td = to_topdown(TOPOLOGIES[name](), input_size=(3, 32, 32)).eval().requires_grad_(False)
    images = torch.rand(2, 3, 32, 32)
    other, changed = in_fewer_multiplications(td, images)
    expected = td(images)
    _, found = built("onnxruntime", other, images)
    assert changed > 2
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
