"""A table of tiny networks, one per topology, times the properties that must hold."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from td_transform import TopDownError, TopDownNetwork, plan_topdown, to_topdown
from td_transform.analyse import analyse
from td_transform.trace import trace
from tests.networks import TOPOLOGIES
from tests.properties import check_network

SIZE = (3, 32, 32)
ALL = pytest.mark.parametrize("name", TOPOLOGIES)


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(model, input_size=SIZE, **options)


@ALL
@pytest.mark.parametrize("arrangement", ["td", "reversed", "uniform"])
def test_trains(name: str, arrangement: str) -> None:
    torch.manual_seed(0)
    td = convert(TOPOLOGIES[name](), arrangement=arrangement)
    assert td.plan.levels[-1].stride == 1
    check_network(td, torch.rand(2, *SIZE), classes=7)


@ALL
def test_trains_at_the_models_own_finest_stride(name: str) -> None:
    model = TOPOLOGIES[name]()
    finest = analyse(trace(model, SIZE)).stages[0].stride
    td = convert(model, output_stride=finest)
    assert td.plan.levels[-1].stride == finest
    check_network(td, torch.rand(2, *SIZE), classes=7)


@ALL
def test_other_batch_and_odd_sizes(name: str) -> None:
    td = convert(TOPOLOGIES[name]()).train()
    check_network(td, torch.rand(3, 3, 29, 31), classes=7)
    check_network(td, torch.rand(2, 3, 45, 33), classes=7)


@ALL
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = TOPOLOGIES[name]()
    layers = list(model.modules())
    layers[len(layers) // 2].eval()
    calls: list[nn.Module] = []
    layers[1].register_forward_hook(lambda module, *_: calls.append(module))
    flags = [m.training for m in layers]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    td = convert(model)
    assert [m.training for m in layers] == flags
    assert list(model.modules()) == layers
    assert calls == []
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    mine = {p.data_ptr() for p in model.parameters()} | {b.data_ptr() for b in model.buffers()}
    assert not mine & {p.data_ptr() for p in td.parameters()}
    assert not {id(m) for m in layers} & {id(m) for m in td.modules()}


@ALL
def test_inherited_weights_are_the_models_own(name: str) -> None:
    model = TOPOLOGIES[name]()
    td = convert(model, weights="inherit")
    assert td.plan.inherited, "some layer's shapes agree"
    sources = {part.name: part.source for copy in td.plan.segments for part in copy.held}
    named = dict(model.named_parameters()), dict(td.named_parameters())
    for path in td.plan.inherited:
        theirs, ours = (
            [value for name, value in parameters.items() if f"{name}.".startswith(f"{owner}.")]
            for parameters, owner in zip(named, (sources[path], path), strict=True)
        )
        assert ours
        assert all(a is b for a, b in zip(ours, theirs, strict=True))
    assert "inherited: " in str(td.plan)


@ALL
def test_the_plan_prints_and_survives_json(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = plan_topdown(TOPOLOGIES[name](), input_size=SIZE)
    text = str(plan)
    for level in plan.levels:
        assert f"{level.parameters:,}" in text
    assert f"total {plan.parameters:,} parameters" in text
    assert type(plan).from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", ["chain", "deep stem", "pre-activation", "dense"])
@pytest.mark.parametrize("merge", ["add-concat", "add", "concat"])
@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "transposed"])
def test_merges_and_upsamplings(name: str, merge: str, upsample: str) -> None:
    torch.manual_seed(0)
    td = convert(TOPOLOGIES[name](), merge=merge, upsample=upsample)
    check_network(td, torch.rand(2, 3, 33, 35), classes=7)


@pytest.mark.parametrize("pyramid", ["gaussian", "blur", "antialias", "decimate", "maxpool"])
def test_pyramids(pyramid: str) -> None:
    torch.manual_seed(0)
    td = convert(TOPOLOGIES["deep stem"](), pyramid=pyramid)
    check_network(td, torch.rand(2, 3, 33, 35), classes=7)


@ALL
def test_an_image_for_each_level(name: str) -> None:
    """Perturbing one level's image alone: the same image everywhere is the plain call."""
    # in double precision: what a coarse level adds to fresh weights' logits is little
    td = convert(TOPOLOGIES[name]()).double().eval()
    image, noise = torch.rand(2, 2, *SIZE, dtype=torch.float64)
    levels = len(td.plan.levels)
    plain = td(image)
    torch.testing.assert_close(td([image] * levels), plain)
    for i in range(levels):
        images = [image] * levels
        images[i] = noise
        assert not torch.equal(td(images), plain)
    with pytest.raises(
        TopDownError, match=rf"a sequence of 1; expected one tensor .* or {levels} of the full"
    ):
        td([image])


def test_init_is_called_on_every_new_module() -> None:
    def ones(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)

    td = convert(TOPOLOGIES["residual"](), init=ones)
    convs = [m for m in td.modules() if isinstance(m, nn.Conv2d)]
    assert convs
    assert all((c.weight == 1).all() for c in convs)


def test_fresh_weights_are_not_the_models() -> None:
    """A layer scale starts from its constant, everything else as its class does."""
    model = TOPOLOGIES["patchify"]()
    td = convert(model)
    scales = [p for n, p in td.named_parameters() if n.endswith("scale")]
    assert scales
    assert all((p == 0.1).all() for p in scales)
    assert all(not torch.equal(a, b) for a, b in _same_shape_convs(model, td))


def _same_shape_convs(model: nn.Module, td: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (a, b)
        for a in model.parameters()
        for b in td.parameters()
        if a.shape == b.shape and a.dim() == 4
    ]


def test_flattening_head_warns() -> None:
    with pytest.warns(UserWarning, match="the head flattens a 5x5 map; .* average-pooled"):
        td = to_topdown(TOPOLOGIES["functional"](), input_size=SIZE)
    assert "warning: " in str(td.plan)
    assert td(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_dropout_follows_the_networks_mode() -> None:
    td = convert(TOPOLOGIES["functional"]())
    x = torch.rand(2, *SIZE)
    assert not torch.equal(td.train()(x), td(x))
    assert torch.equal(td.eval()(x), td(x))
