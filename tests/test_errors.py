"""Every error names the place, what was seen, what was expected and one remedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

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


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return {"present": x}["absent"]


class OnBatch(nn.Module):
    """Does something else for another batch size."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] > 2 else x


class OnSizes(nn.Module):
    """Control flow on sizes, which the input size decides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 16 or x.shape[-2] % 2:
            return x
        return self.conv(x) if x.shape[2] == x.shape[3] else -x


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.i0(x)


class Stochastic(nn.Module):
    """Works otherwise in training, with no submodules."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else -x


class Diagonals(nn.Module):
    """Rows as the diagonals of matrices, by an operator without a rule."""

    def forward(self, x: Tensor) -> Tensor:
        return x.diag_embed().sum(-1)


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


class Forgetful(nn.Module):
    def forward(self, x: Tensor) -> None:
        x.relu()


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


class Steps(nn.Module):
    """Layers with a voltage, which run step by step (spiking networks)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.third, self.fc = nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        low = middle = high = torch.zeros(())
        for _ in range(3):
            low = 0.9 * low + self.first(x)
            middle = 0.9 * middle + self.second(F.relu(low))
            high = 0.9 * high + self.third(F.relu(middle))
        return self.fc(high.mean((2, 3)))  # type: ignore[no-any-return]


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(cna(3, 8), cna(8, 8, 3, 2), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Twice(nn.Module):
    """Two views of every image, as an ensemble or a contrastive loss wants them."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.flip(-1)])


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(cna(3, 8), layer, nn.MaxPool2d(2), cna(8, 12), Classifier(12))


class LowRank(nn.Module):
    """A parametrisation that fits weights of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(8, 8, 1, 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.change


def low_rank() -> nn.Module:
    conv = nn.Conv2d(8, 8, 1)
    return nn.utils.parametrize.register_parametrization(conv, "weight", LowRank())


def quantised() -> nn.Module:
    return with_layer(torch.ao.nn.quantized.ReLU6())


CASES: dict[str, tuple[Callable[[], nn.Module], type[TopDownError], str]] = {
    "a forward that fails": (
        lambda: with_layer(Failing()), TraceError,
        r"module '1' \(Failing, \S*test_errors\.py:\d+\): KeyError: 'absent'; expected a model "
        r"that runs on an image of size \(3, 32, 32\).*pass the input_size",
    ),
    "control flow on the batch": (
        lambda: with_layer(OnBatch()), TraceError,
        r"a batch of 4 images instead of 2: .*does the same for every batch size.*leaf_modules",
    ),
    "no downsampling": (
        lambda: nn.Sequential(cna(3, 8), cna(8, 8), Classifier(8)), StructureError,
        r"model Sequential: one stage at stride 1: .* expected two or more stages",
    ),
    "several inputs": (
        TwoInputs, TraceError, r"inputs \['x', 'mask'\]: 2 inputs; expected one image tensor",
    ),
    "several outputs": (
        TwoOutputs, TraceError, r"a tuple of outputs; expected one tensor of logits.*pass the index of",
    ),
    "no output": (
        lambda: nn.Sequential(chain(), Forgetful()), TraceError,
        r"output of the model: None; expected one tensor of logits.*return the logits",
    ),
    "lazy": (
        lambda: with_layer(nn.LazyConv2d(8, 3, padding=1)), TraceError,
        r"module '1' \(LazyConv2d\), parameter 'weight': an uninitialised \(lazy\).*run the model",
    ),
    "scripted": (
        lambda: with_layer(torch.jit.script(nn.ReLU())), TraceError,
        r"a scripted module; expected a plain nn\.Module.*before torch\.jit\.script.*PYTORCH_JIT=0",
    ),
    "quantised": (quantised, TraceError, r"a quantised module; expected a floating-point model"),
    "pruned": (
        lambda: with_layer(prune.l1_unstructured(nn.Conv2d(8, 8, 1), "weight", 0.5)), TraceError,
        r"module '1' .*a pruned weight; .*prune\.remove",
    ),
    "parametrised with tensors of its own": (
        lambda: with_layer(low_rank()), TraceError,
        r"module '1' .*parametrisation \(LowRank\) with tensors .*remove_parametrizations",
    ),
    "trunk that can't be cut": (
        Exchange, StructureError,
        r"several maps cross every change of resolution: '\w+' \(stride 1\), '\w+' \(stride 2\)",
    ),
    "a loop over time": (
        Steps, StructureError,
        r"node 'first' .*: 'first' to 'third' run 3 times, one step after the other; .* of one step",
    ),
    "two maps of an image": (
        lambda: nn.Sequential(Twice(), cna(3, 8), cna(8, 16, 2), Classifier(16)), StructureError,
        r"node 'cat' in module '0' .*: 4 maps of 2 images; .*Remedy: repeat, split or stack images in",
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


UNKNOWN = {
    "element-wise": (
        Bessel, r"node 'i0' in module '0\.1' \(\S*test_errors\.py:\d+\): the operator torch\.i0, "
        r"which td_transform doesn't know and so keeps the 8 channels that it reads.*"
        r"register_operator\(torch\.i0, like=torch\.nn\.ReLU\) if it works element-wise",
    ),
    "a module": (Stochastic, r"the operator Stochastic, which .*register_operator\(Stochastic, like"),
    "another shape": (
        Diagonals, r"the operator 'diag_embed', .*"
        r"register_operator\('diag_embed', Operator\(\.\.\.\)\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_operator_is_refused_where_its_width_has_to_change(case: str) -> None:
    layer, text = UNKNOWN[case]
    model = nn.Sequential(
        nn.Sequential(cna(3, 8), layer()), cna(8, 16, 3, 2), cna(16, 32, 3, 2), Classifier(32)
    )
    assert to_topdown(model, input_size=SIZE).plan.opaque
    with pytest.raises(UnknownOperatorError) as caught:
        to_topdown(model, input_size=SIZE, arrangement="uniform")
    assert re.search(text, str(caught.value), re.DOTALL), str(caught.value)
    assert "like=torch.nn.ReLU" in str(caught.value) or case == "another shape"


def test_what_is_frozen_or_opaque_is_said_in_the_plan() -> None:
    plan = plan_topdown(with_layer(Branching()), input_size=SIZE)
    assert re.search(
        r"fixed: bool\(\) of a tensor is fixed at \w+ \(\S*test_errors\.py:\d+\)", str(plan)
    )
    plan = plan_topdown(with_layer(Bessel()), input_size=SIZE)
    assert "\nopaque: torch.i0" in str(plan)


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


def test_complex_parameters() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.complex64))
            self.net = chain()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    with pytest.raises(
        TraceError,
        match=r"parameter 'weight': dtype torch\.complex64; expected parameters of real numbers\. "
        r"Remedy: keep pairs of numbers, and call torch\.view_as_complex",
    ):
        to_topdown(Complex(), input_size=SIZE)


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
    register_operator(torch.sinc, like=nn.ReLU)
    register_operator(Branching, like=nn.Dropout)
    for layer in (Stochastic(), Bessel(), Branching()):
        td = to_topdown(with_layer(layer), input_size=SIZE)
        assert td(torch.rand(2, *SIZE)).shape == (2, 7)


def test_like_must_be_known() -> None:
    with pytest.raises(
        TopDownError, match=r"argument 'like': .*Branching.*name one of torch's own"
    ):
        register_operator(Bessel, like=Branching)


@pytest.mark.parametrize(
    ("size", "taken"), [((3, 32, 32), "_1_conv"), ((3, 32, 40), "neg"), ((3, 8, 8), None)]
)
def test_control_flow_on_sizes_is_decided(size: tuple[int, int, int], taken: str | None) -> None:
    names = {node.name for node in trace(with_layer(OnSizes()), size).graph.nodes}
    assert names & {"_1_conv", "neg"} == ({taken} if taken else set())
