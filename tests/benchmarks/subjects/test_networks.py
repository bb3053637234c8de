"""Networks by name, for images in [0, 1]."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from benchmarks.errors import BenchmarkError
from benchmarks.measures.training import statistics_of
from benchmarks.subjects.datasets import load
from benchmarks.subjects.models import lenet_fc
from benchmarks.subjects.networks import Normalised, Statistics, build
from td_transform import TopDownError


@pytest.mark.parametrize("arrangement", ["bu", "td", "uniform", "reversed"])
@pytest.mark.parametrize(
    ("spec", "size"),
    [("lenet-fc", (1, 28, 28)), ("resnet32", (3, 32, 32)), ("resnet18-imagenette", (3, 32, 32))],
)
def test_networks_read_images_in_zero_to_one(
    spec: str, arrangement: str, size: tuple[int, int, int]
) -> None:
    network = build(spec, arrangement=arrangement, size=size, classes=7)  # type: ignore[arg-type]
    logits = network.eval()(torch.rand(2, *size))
    assert logits.shape == (2, 7)


def test_glorot_and_he_reach_every_kernel_of_a_top_down_network() -> None:
    """Also those that the bottom-up network does not have: lifts and merges."""
    for spec, size in (("lenet-fc", (1, 28, 28)), ("resnet32", (3, 32, 32))):
        network = build(spec, arrangement="td", size=size, classes=10)
        for name, layer in network.named_modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            he = spec == "resnet32"
            variance = 2 / fan_in if he else 2 / (fan_in + fan_out)
            if layer.weight.numel() > 1000:
                assert layer.weight.var().item() == pytest.approx(variance, rel=0.2), name
            assert layer.bias is not None
            assert not layer.bias.any(), name
            if not he:
                bound = math.sqrt(6 / (fan_in + fan_out))
                assert layer.weight.abs().max() <= bound, name


def test_normalisation_is_inside_and_reaches_every_level() -> None:
    torch.manual_seed(0)
    statistics = Statistics(torch.full((1, 28, 28), 0.3), torch.full((1, 28, 28), 2.0))
    network = build(
        "lenet-fc", arrangement="td", size=(1, 28, 28), classes=10, statistics=statistics
    ).eval()
    images = torch.rand(3, 1, 28, 28)
    expected = network.network((images - 0.3) / 2)
    assert torch.allclose(network(images), expected, atol=1e-6)
    assert torch.allclose(network.scales([images] * 3), expected, atol=1e-6)
    other = network.scales([images, images, torch.rand(3, 1, 28, 28)])
    assert not torch.allclose(other, expected, rtol=1e-4, atol=0)


def test_statistics_of_the_training_images() -> None:
    images = load("digits")
    mean = statistics_of(images, "pixel-mean")
    expected = images.train_images.double().mean(0) / 255
    assert torch.allclose(mean.mean.double(), expected, atol=1e-6)
    assert torch.equal(mean.deviation, torch.ones(1, 28, 28))
    channel = statistics_of(images, "channel")
    pixels = images.train_images.double() / 255
    assert channel.mean.item() == pytest.approx(pixels.mean().item(), abs=1e-6)
    assert channel.deviation.item() == pytest.approx(pixels.std(correction=0).item(), abs=1e-6)
    assert not statistics_of(images, "none").mean.any()


def _two_logits() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_libraries_and_own_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm = build("timm:resnet10t", arrangement="td", size=(1, 32, 32), classes=3)
        bare = build("resnet10t", arrangement="bu", size=(1, 32, 32), classes=3)
        grey = build("resnet18", arrangement="bu", size=(1, 32, 32), classes=3)
        own = build(
            "benchmarks.subjects.models:lenet_fc", arrangement="td", size=(1, 28, 28), classes=10
        )
    assert timm.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 3)
    assert grey.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 3)
    assert (bare.channels, grey.channels) == (1, 3)
    assert sum(p.numel() for p in own.parameters()) == 14452


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("timm:resnet26x", r"model 'timm:resnet26x'.*no such model in timm.*timm:resnet26"),
        ("resnet19", r"no such model.*resnet18"),
        (
            "tests.benchmarks.subjects.test_networks:_two_logits",
            r"output \(1, 2\).*expected logits \(1, 10\)",
        ),
    ],
)
def test_model_errors_name_the_remedy(spec: str, text: str) -> None:
    with pytest.raises((BenchmarkError, TopDownError), match=text):
        build(spec, arrangement="bu", size=(1, 28, 28), classes=10)


def test_normalised_copies_what_it_subtracts() -> None:
    mean = torch.zeros(1, 1, 1)
    network = Normalised(lenet_fc(), statistics=Statistics(mean, torch.ones(1, 1, 1)), channels=1)
    mean += 1
    assert not network.mean.any()
    assert "mean" in network.state_dict()
