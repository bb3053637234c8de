"""The analytic receptive field of any position is the support of its gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import nn

from td_transform import TopDownNetwork, to_topdown
from td_transform.analyse import analyse
from td_transform.fields import ReceptiveFields
from td_transform.trace import make_skeleton, trace
from tests.fields.networks import random_network
from tests.fields.oracle import compare
from tests.networks import TOPOLOGIES
from tests.torchvision_networks import CNNS, DAILY, build, each
from tests.transform.lines_and_volumes import NETWORKS, Space

Record = Callable[[str, object], None]

# An interpolation that falls on a pixel exactly in theory gives its neighbour a weight of 1e-15.
ROUNDING = 1e-13
SIDE = 48
SMALLEST = {"alexnet": 64, "inception_v3": 80}  # pixels that these two need at least


def fields_of(model: nn.Module, size: tuple[int, ...]) -> ReceptiveFields:
    return ReceptiveFields(trace(model, size, any_output=True))


def topdown(model: nn.Module, size: tuple[int, ...], **options: int) -> TopDownNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(make_skeleton(model), input_size=size, **options)


def some(fields: ReceptiveFields, count: int, generator: torch.Generator) -> list[str]:
    """The last maps, and some others at random, in the order of the graph."""
    names = [
        name
        for name, row in fields.items()
        if not row.is_pooled and fields.trace_shape(name)[2:] == row.output_size
    ]
    chosen = torch.randperm(len(names), generator=generator)[: count - 1].tolist()
    return [names[i] for i in sorted({*chosen, len(names) - 1})]


@pytest.mark.parametrize(
    ("part", "count"),
    [(0, 60), *(pytest.param(part, 500, marks=pytest.mark.exhaustive) for part in range(1, 5))],
)
def test_random_networks(part: int, count: int, record_property: Record) -> None:
    """Networks of all operators."""
    compared = networks = 0

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 10**9))
    def check(seed: int) -> None:
        nonlocal compared, networks
        model, size = random_network(seed + part)
        note(str(model))
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        fields = fields_of(model, size)
        names = some(fields, 4, generator)
        compared += compare(fields, names, 3, generator, tolerance=ROUNDING)
        networks += 1

    check()
    assert networks >= count
    record_property("boxes compared with gradients", compared)


@pytest.mark.parametrize("kind", ["bottom-up", "top-down"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str, kind: str, record_property: Record) -> None:
    """Every tensor of a tiny network per topology; sizes that no stride divides, where they may."""
    size = {"functional": (3, 32, 32), "pixel-unshuffle": (3, 36, 28)}.get(name, (3, 37, 29))
    model = TOPOLOGIES[name]()
    fields = fields_of(topdown(model, size) if kind == "top-down" else model, size)
    torch.manual_seed(0)
    compared = compare(fields, list(fields), 4, torch.Generator().manual_seed(0))
    assert compared > 30
    record_property("boxes compared with gradients", compared)


PYRAMIDS = ["gaussian", "blur", "antialias", "decimate"]


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "transposed"])
@pytest.mark.parametrize("pyramid", PYRAMIDS)
def test_topdown_options(pyramid: str, upsample: str, record_property: Record) -> None:
    size = (3, 37, 29)
    td = to_topdown(TOPOLOGIES["chain"](), input_size=size, pyramid=pyramid, upsample=upsample)
    fields = fields_of(td, size)
    torch.manual_seed(0)
    compared = compare(
        fields, list(fields), 4, torch.Generator().manual_seed(0), tolerance=ROUNDING
    )
    assert compared > 30
    record_property("boxes compared with gradients", compared)


def test_squeeze_excite_is_told_apart(record_property: Record) -> None:
    """Without gates: as if nothing flowed through what pools the whole map."""
    size = (3, 37, 29)
    fields = fields_of(TOPOLOGIES["squeeze-excite"](), size)
    names = [name for name, row in fields.items() if row.stride != (None, None)]
    assert any(fields[name].gated for name in names)
    torch.manual_seed(0)
    compared = compare(fields, names, 4, torch.Generator().manual_seed(0), gates=False)
    assert compared > 30
    record_property("boxes compared with gradients", compared)


@pytest.mark.parametrize("kind", ["bottom-up", "top-down"])
@each(CNNS, DAILY)
def test_torchvision(name: str, kind: str, record_property: Record) -> None:
    side = SMALLEST.get(name, SIDE)
    size = (3, side, side)
    model = build(name)
    if kind == "top-down":
        finest = analyse(trace(model, size)).stages[0].stride
        model = topdown(model, size, output_stride=finest)
    fields = fields_of(model, size)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    compared = compare(fields, some(fields, 5, generator), 2, generator)
    assert compared >= 4
    record_property("boxes compared with gradients", compared)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_lines_and_volumes(axes: int, name: str) -> None:
    """Both networks on lines and volumes."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, size = NETWORKS[name](Space(axes)), Space(axes).size(8)
    for network in (model, topdown(model, size)):
        fields = fields_of(network, size)
        assert compare(fields, some(fields, 8, generator), 3, generator) >= 8
