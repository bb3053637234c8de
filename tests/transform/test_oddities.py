"""What real networks hold beside plain layers: converted, trained a step, nothing left without gradient."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from td_transform import TopDownNetwork, TraceError, to_topdown
from tests import networks as plain
from tests.properties import check_network
from tests.transform.oddities import ODDITIES
from tests.transform.plain import Function, Network

SIZE = (3, 32, 32)
COMPUTED = [
    "weight_norm by hooks", "spectral_norm by hooks", "weight_norm", "spectral_norm",
    "custom parametrization",
]  # fmt: skip
# a kernel of C x C mixed from others is no linear function of C; a product along rows is opaque
OF_FIXED_WIDTH = [
    "conditional convolution", "conditional convolution in a chain", "conditional transition",
    "eye of positions",
]  # fmt: skip
RESIZED = sorted(set(ODDITIES) - set(OF_FIXED_WIDTH))
# a table of positions or windows that fit the model's own resolutions only
BOUND_TO_SIZE = ["window attention"]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's old weight_norm
        return ODDITIES[name]()


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return to_topdown(model, input_size=SIZE, **options)


@pytest.mark.parametrize("name", sorted(set(ODDITIES) - set(BOUND_TO_SIZE)))
@pytest.mark.parametrize("arrangement", ["td", "reversed"])
def test_converts_and_trains(name: str, arrangement: str) -> None:
    td = convert(build(name), arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize("name", RESIZED)
def test_other_widths(name: str) -> None:
    td = convert(build(name), arrangement="uniform")
    assert {level.width for level in td.plan.levels} == {16}
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize("upsample", ["nearest", "transposed"])
def test_a_transition_whose_kernel_is_computed(upsample: str) -> None:
    """The kernel stays, and the network runs at another batch than the trace's. Images side by side
    as channels are nothing that a transposed convolution could upsample: a 1x1 unit stands instead."""
    td = convert(build("conditional transition"), arrangement="reversed", upsample=upsample)
    kernels = [name for name, _ in td.named_parameters() if name.endswith("3.kernels")]
    assert kernels == (["levels.2.stage.stages.3.kernels"] if upsample == "nearest" else [])
    check_network(td, torch.rand(3, *SIZE), classes=7)


def computed_layers(network: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers whose weight is computed, in either form."""
    return [
        m
        for m in network.modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
        and (
            parametrize.is_parametrized(m)
            or any(isinstance(h, (WeightNorm, SpectralNorm)) for h in m._forward_pre_hooks.values())
        )
    ]


@pytest.mark.parametrize("name", COMPUTED)
def test_every_layer_computes_its_weight(name: str) -> None:
    """New ones (lifts, merges) as well as those that are carried along; the model keeps its own."""
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    td = convert(model)
    layers = [m for m in td.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) > len(computed_layers(model))
    assert computed_layers(td) == layers
    assert len(computed_layers(model)) == 7
    assert not {id(p) for p in model.parameters()} & {id(p) for p in td.parameters()}
    model(torch.rand(2, *SIZE)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.state_dict().keys() == before.keys()
    for layer in computed_layers(td):
        assert layer.weight.std() > 0, "a fresh weight, not that of an empty tensor"


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights_are_inherited(name: str) -> None:
    model = build(name).eval()
    td = convert(model, weights="inherit")
    by_name = {layer.name: layer for layer in td.plan.layers}
    shared = [path for path in td.plan.inherited if by_name[path].source.endswith("inner.0")]
    assert shared
    for path in shared:
        ours, theirs = td.get_submodule(path), model.get_submodule(by_name[path].source)
        assert {id(p) for p in ours.parameters()} == {id(p) for p in theirs.parameters()}
        x = torch.rand(1, ours.in_channels, 8, 8)
        torch.testing.assert_close(ours.eval()(x), theirs(x))


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "custom parametrization"])
def test_a_network_with_computed_weights_is_copied(name: str) -> None:
    td = convert(build(name)).eval()
    x = torch.rand(2, *SIZE)
    torch.testing.assert_close(copy.deepcopy(td)(x), td(x))


def test_a_cosine_classifier_is_the_head() -> None:
    td = convert(build("cosine classifier"))
    assert td.plan.levels[-1].width == 8
    assert tuple(td.head.head.weight.shape) == (7, 8)


def test_a_computed_weight_read_outside_its_layer_is_refused() -> None:
    """The layer itself is never called, so nothing could carry the norm along."""

    class Borrowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = parametrizations.weight_norm(nn.Linear(32, 7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x.mean((2, 3)), self.linear.weight)

    with pytest.raises(TraceError, match=r"a computed weight \('head.linear.weight'"):
        convert(Network(head=Borrowing()))


def test_a_leaf_module_that_there_is_not() -> None:
    with pytest.raises(TraceError, match=r"argument 'leaf_modules' \('stages.9'\)"):
        convert(Network(), leaf_modules=["stages.9"])


def test_an_equation_comes_before_what_it_reads() -> None:
    """In the head `torch.einsum`'s first argument is no tensor."""
    pooling = Function(32, lambda x: torch.einsum("nchw,ndhw->ncd", x, x).mean(2))
    head = nn.Sequential(pooling, nn.Linear(32, 7))
    td = convert(Network(head=head), arrangement="reversed")
    check_network(td, torch.rand(2, *SIZE), classes=7)


def test_a_classifier_unit_after_a_shuffle() -> None:
    """A reshape is no dropout: the last stage ends behind it."""
    network = Network(
        head=nn.Sequential(nn.Conv2d(32, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    network.stages.append(plain.ChannelShuffle(32))
    check_network(convert(network), torch.rand(2, *SIZE), classes=7)


def test_no_two_layers_inherit_the_same_weights() -> None:
    """A first block that takes the form of a later one is not tied to it."""
    network = Network()
    network.stages = nn.Sequential(
        plain.Residual(8, 8), plain.Inception(8, 24, 2), plain.Residual(32, 32)
    )
    td = convert(network, weights="inherit")
    layers = {layer.name: layer.source for layer in td.plan.layers}
    assert len(set(layers.values())) < len(layers)
    sources = [layers[name] for name in td.plan.inherited]
    assert len(set(sources)) == len(sources)
    check_network(td, torch.rand(2, *SIZE), classes=7)
