"""Every error names the place, what was seen, what was expected and one remedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import (
    StructureError,
    TopDownError,
    TraceError,
    UnknownOperatorError,
    plan_topdown,
    register_operator,
    to_topdown,
)
from td_transform.operators import registry
from td_transform.trace import trace
from tests.networks import Classifier, chain, cna

SIZE = (3, 32, 32)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return self.conv(x)
        return x


class OnSizes(nn.Module):
    """Control flow on sizes, which the input size decides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 16 or x.shape[-2] % 2:
            return x
        return self.conv(x) if x.shape[2] == x.shape[3] else -x


class Rotate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, 1, 3)


class Stochastic(nn.Module):
    """Works otherwise in training, with no submodules."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = chain()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.net(x * mask)


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = chain()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), x


class Exchange(nn.Module):
    """Two resolutions that exchange tensors to the end (HRNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fine, self.coarse = cna(3, 8), cna(8, 8), cna(8, 8, 3, 2)
        self.fine2, self.coarse2, self.last = cna(8, 8), cna(8, 8), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        fine, coarse = self.fine(x), self.coarse(x)
        fine = self.fine2(fine + F.interpolate(coarse, scale_factor=2))
        coarse = self.coarse2(coarse)
        return self.last(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(cna(3, 8), cna(8, 8, 3, 2), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(cna(3, 8), layer, nn.MaxPool2d(2), cna(8, 12), Classifier(12))


def quantised() -> nn.Module:
    return with_layer(torch.ao.nn.quantized.FloatFunctional())


CASES: dict[str, tuple[Callable[[], nn.Module], type[TopDownError], str]] = {
    "control flow": (
        lambda: with_layer(Branching()), TraceError,
        r"module '1' \(Branching, .*test_errors\.py:\d+\): TraceError: .*; expected a forward "
        r"without control flow.*leaf module.*register_operator\(Branching, like=torch\.nn\.ReLU\)",
    ),
    "no downsampling": (
        lambda: nn.Sequential(cna(3, 8), cna(8, 8), Classifier(8)), StructureError,
        r"model Sequential: one stage at stride 1: .* expected two or more stages",
    ),
    "several inputs": (
        TwoInputs, TraceError, r"inputs \['x', 'mask'\]: 2 inputs; expected one image tensor",
    ),
    "several outputs": (
        TwoOutputs, TraceError, r"a tuple of outputs; expected one tensor of logits.*returns the logits",
    ),
    "unknown operator": (
        lambda: with_layer(Rotate()), UnknownOperatorError,
        r"node 'roll' in module '1' \(\S*test_errors\.py:\d+\): the unknown "
        r"operator torch\.roll; .*register_operator\(torch\.roll, like=torch\.nn\.ReLU\)",
    ),
    "unregistered mode-dependent module": (
        lambda: with_layer(Stochastic()), UnknownOperatorError,
        r"the unknown operator Stochastic; .*register_operator\(Stochastic",
    ),
    "lazy": (
        lambda: with_layer(nn.LazyConv2d(8, 3, padding=1)), TraceError,
        r"module '1' \(LazyConv2d\), parameter 'weight': an uninitialised \(lazy\).*run the model",
    ),
    "scripted": (
        lambda: with_layer(torch.jit.script(nn.ReLU())), TraceError,
        r"a scripted module; expected a plain nn\.Module",
    ),
    "quantised": (quantised, TraceError, r"a quantised module; expected a floating-point model"),
    "weight by a hook": (
        lambda: with_layer(nn.utils.weight_norm(nn.Conv2d(8, 8, 1))), TraceError,
        r"module '1' .*a weight that a hook computes .*remove_weight_norm",
    ),
    "parametrised": (
        lambda: with_layer(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))), TraceError,
        r"module '1' .*a parametrised weight; .*remove_parametrizations",
    ),
    "trunk that can't be cut": (
        Exchange, StructureError,
        r"several maps cross every change of resolution: '\w+' \(stride 1\), '\w+' \(stride 2\)",
    ),
    "a map as output": (Segmenter, StructureError, r"a map as output; expected logits after"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_model_errors(case: str) -> None:
    build, kind, text = CASES[case]
    model = build()
    with pytest.raises(kind) as caught:
        plan_topdown(model, input_size=SIZE)
    assert re.search(text, str(caught.value), re.DOTALL), str(caught.value)
    assert "Remedy: " in str(caught.value)
    assert caught.value.remedy
    assert caught.value.place


def test_wrong_channel_count() -> None:
    with pytest.raises(TraceError, match="an input with 1 channels; expected 3 channels"):
        to_topdown(chain(), input_size=(1, 32, 32))


def test_input_too_small() -> None:
    with pytest.raises(
        TraceError, match=r"expected a model that runs on an image of size \(3, 2, 2\)"
    ):
        to_topdown(chain(), input_size=(3, 2, 2))


@pytest.mark.parametrize("size", [(3, 32), (3, 32, 0), (2, 3, 32, 32), (3, 32.0, 32)])
def test_malformed_input_size(size: tuple[int, ...]) -> None:
    with pytest.raises(TraceError, match="expected three positive integers"):
        to_topdown(chain(), input_size=size)


def test_non_float_model() -> None:
    class Integer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False)
            self.net = chain()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    with pytest.raises(
        TraceError, match=r"parameter 'weight': dtype torch\.int32; .*model\.float\(\)"
    ):
        to_topdown(Integer(), input_size=SIZE)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("arrangement", "up"),
        ("merge", "sum"),
        ("upsample", "cubic"),
        ("pyramid", "box"),
        ("weights", "old"),
    ],
)
def test_options(option: str, value: str) -> None:
    with pytest.raises(TopDownError, match=f"argument '{option}': '{value}'; expected '.*' or '"):
        to_topdown(chain(), input_size=SIZE, **{option: value})


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_output_stride(value: object) -> None:
    with pytest.raises(
        TopDownError, match=r"argument 'output_stride': .*expected a positive integer"
    ):
        to_topdown(chain(), input_size=SIZE, output_stride=value)


def test_a_registered_operator_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedies of the texts above work."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Stochastic, like=nn.ReLU)
    register_operator(torch.roll, like=nn.ReLU)
    register_operator(Branching, like=nn.Dropout)
    for layer in (Stochastic(), Rotate(), Branching()):
        td = to_topdown(with_layer(layer), input_size=SIZE)
        assert td(torch.rand(2, *SIZE)).shape == (2, 7)


def test_like_must_be_known() -> None:
    with pytest.raises(KeyError):
        register_operator(Rotate, like=Branching)


@pytest.mark.parametrize(
    ("size", "taken"), [((3, 32, 32), "_1_conv"), ((3, 32, 40), "neg"), ((3, 8, 8), None)]
)
def test_control_flow_on_sizes_is_decided(size: tuple[int, int, int], taken: str | None) -> None:
    names = {node.name for node in trace(with_layer(OnSizes()), size).graph.nodes}
    assert names & {"_1_conv", "neg"} == ({taken} if taken else set())
