"""Fresh values are distributed as the layers' classes distribute them, and follow torch's seed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from td_transform import MergeSpec, TopDownError, register_operator, to_topdown
from td_transform.emit.initialise import materialise
from td_transform.operators import registry
from tests.networks import TOPOLOGIES


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Conv2d(64, 1100, 3, device="meta"),
        lambda: nn.Conv2d(64, 32, 3, groups=8, device="meta"),
        lambda: nn.Linear(300, 200, device="meta"),
        lambda: nn.ConvTranspose2d(32, 48, 2, device="meta"),
    ],
)
def test_as_the_class_does(build: object) -> None:
    torch.manual_seed(0)
    layer: nn.Module = build()
    materialise(layer, torch.device("cpu"))
    ours = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    for name, theirs in layer.named_parameters():
        bound = theirs.abs().max()
        assert ours[name].abs().max() == pytest.approx(bound.item(), rel=0.1)
        assert ours[name].std().item() == pytest.approx(theirs.std().item(), rel=0.2)
        assert ours[name].mean().abs() < bound / 4
        assert ours[name].unique().numel() > 0.9 * min(ours[name].numel(), 2**16)


class Scaled(nn.Module):
    """Scales by a buffer that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((1,), 3.0), persistent=False)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.scale


def test_weights_loaded_afterwards_need_no_values_before() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Scaled(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    whole = to_topdown(model, input_size=(3, 32, 32))
    empty = to_topdown(model, input_size=(3, 32, 32), device="meta")
    assert all(p.is_meta for p in empty.parameters())
    assert empty.plan == whole.plan
    empty.load_state_dict(whole.state_dict(), assign=True)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(empty.eval()(images), whole.eval()(images))


def test_another_device_is_refused() -> None:
    text = r"argument 'device': 'cuda'; expected None or 'meta'. Remedy: call td.to\(device\)"
    with pytest.raises(TopDownError, match=text):
        to_topdown(TOPOLOGIES["chain"](), device="cuda")


def test_the_seed_decides_whatever_the_threads() -> None:
    def values() -> list[torch.Tensor]:
        torch.manual_seed(3)
        td = to_topdown(TOPOLOGIES["deep stem"](), input_size=(3, 32, 32))
        return [p.detach() for p in td.parameters()]

    threads = torch.get_num_threads()
    first = values()
    torch.set_num_threads(threads + 1)
    second = values()
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    weights = [p for p in first if p.dim() == 4]
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))


class Norm(nn.Module):
    """Says nothing of how it is initialised; its statistics are no buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((1, width, 1, 1), 0.5))
        self.register_buffer("spread", torch.full((width,), 2.0))
        self.mean = torch.full((1, width, 1, 1), -3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3), keepdim=True)
        return (x - self.mean) / self.spread.view(1, -1, 1, 1) * self.gain


class Gained(nn.Conv2d):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__(width_in, width, 3, stride, 1)
        self.gain = nn.Parameter(torch.full((width, 1, 1, 1), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.gain, self.bias)


class Gate(nn.Module):
    def __init__(self, spec: MergeSpec) -> None:
        super().__init__()
        self.unit = spec.unit(2 * spec.channels)

    def forward(self, up: torch.Tensor, lift: torch.Tensor) -> torch.Tensor:
        return self.unit(torch.cat([up, lift], 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("merge", ["add-concat", Gate])
@pytest.mark.parametrize("arrangement", ["td", "uniform"])
def test_new_units_have_values_like_what_they_are_modelled_on(
    merge: Any, arrangement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros in the place of what no class initialises would cut the gradient off."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Norm, like=nn.LayerNorm)
    model = nn.Sequential(
        Gained(3, 8, 1), Norm(8), nn.ReLU(), Gained(8, 16, 2), Norm(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    seen = 0

    def init(module: nn.Module) -> None:
        nonlocal seen
        seen += isinstance(module, Norm)

    td = to_topdown(model, input_size=(3, 16, 16), merge=merge, arrangement=arrangement, init=init)
    norms = [module for module in td.modules() if isinstance(module, Norm)]
    assert any(".merge." in name for name, m in td.named_modules() if m in norms)
    assert seen == len(norms)
    for norm in norms:
        assert set(norm.gain.flatten().tolist()) == {0.5}
        assert set(norm.spread.flatten().tolist()) == {2.0}
        assert set(norm.mean.flatten().tolist()) == {-3.0}
        assert norm.mean.numel() == norm.gain.numel()
    gains = [m.gain for m in td.modules() if isinstance(m, Gained)]
    assert all(set(gain.flatten().tolist()) == {0.5} for gain in gains)
    td(torch.rand(2, 3, 16, 16)).square().sum().backward()
    lift = td.get_parameter("levels.0.lift.conv.weight").grad
    assert lift is not None
    assert lift.abs().sum() > 0
