"""Grad-CAM at every level: against values worked out by hand, and against TorchCAM's own hooks."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchcam.methods import GradCAM

from benchmarks.errors import BenchmarkError
from benchmarks.measures.explain import Explainer, scaled
from benchmarks.measures.explain_maps import log_odds
from benchmarks.runs.jobs import Scaling
from benchmarks.subjects.datasets import as_floats, load
from benchmarks.subjects.models import lenet_fc, nin, nin_light, resnet32
from benchmarks.subjects.networks import build
from td_transform import to_topdown
from td_transform.torchvision_cpu import import_torchvision

DIGIT, SMALL, PHOTO = (1, 28, 28), (3, 32, 32), (3, 64, 64)


def resnet18() -> nn.Module:
    return import_torchvision().models.resnet18(num_classes=10)  # type: ignore[no-any-return]


def topdown_lenet() -> nn.Module:
    return to_topdown(lenet_fc(), input_size=DIGIT)


def linear_network() -> nn.Sequential:
    """No activation, no bias: its Grad-CAM can be worked out by hand."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 3, 1, bias=False),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2, bias=False),
    )


def scaled_by_hand(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Min-max."""
    full = F.interpolate(maps[:, None].clamp(min=0), size=size, mode="bilinear")[:, 0]
    flat = full.flatten(1)
    low, high = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    return (full - low) / (high - low)


def trained_a_little(network: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """With running averages that fit, so that units with a ReLU have something to say."""
    torch.manual_seed(1)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, *size))
    return network.eval()


def torchcam_maps(network: nn.Module, place: str, images: Tensor, labels: Tensor) -> Tensor:
    """Of the softmax, with its hook on the network's own module."""
    with GradCAM(network, target_layer=place) as extractor:
        scores = network(images).softmax(1)
        maps: list[Tensor] = extractor(labels.tolist(), scores, normalized=False)
    return maps[0]


def test_grad_cam_of_a_linear_network_is_the_weighted_sum_of_its_maps() -> None:
    network = linear_network()
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1])
    first, second = (network[i].weight.detach()[:, :, 0, 0] for i in (0, 2))
    classes = network[5].weight.detach()
    # of two classes p = sigmoid(z_c - z_o): d p / d map, averaged over the map, is up to a factor
    # that scaling takes away the difference of the two classes' weights
    weights = {"Layer 2": classes[labels] - classes[1 - labels]}
    weights["Layer 1"] = weights["Layer 2"] @ second
    maps = {"Layer 1": torch.einsum("kc,nchw->nkhw", first, images)}
    maps["Layer 2"] = torch.einsum("kc,nchw->nkhw", second, F.avg_pool2d(maps["Layer 1"], 2))
    explainer = Explainer(network, input_size=(1, 8, 8))
    found = explainer.heatmaps(images, labels, scaling="min-max", batch=2)
    for layer, heatmaps in zip(explainer.layers, found, strict=True):
        by_hand = torch.einsum("nk,nkhw->nhw", weights[layer.name], maps[layer.name]).clamp(min=0)
        for heatmap, expected in zip(heatmaps, by_hand, strict=True):
            if expected.any():
                torch.testing.assert_close(
                    heatmap, scaled_by_hand(expected[None], (8, 8))[0], atol=1e-5, rtol=1e-4
                )
            else:
                assert not heatmap.any()


def test_centred_scaling_subtracts_the_mean_before_anything_is_cut() -> None:
    network = linear_network()
    images = torch.rand(2, 1, 8, 8)
    explainer = Explainer(network, input_size=(1, 8, 8))
    # the maps are the images times a number, whose sign is the other one for the other class
    found = explainer.heatmaps(
        images[:1].expand(2, -1, -1, -1), torch.tensor([0, 1]), layers=explainer.layers[:1]
    )[0]
    change = images[0, 0] - images[0, 0].mean()
    expected = [side.clamp(min=0) / side.max() for side in (change, -change)]
    agree = [
        all(torch.allclose(f, e, atol=1e-5) for f, e in zip(found, pair, strict=True))
        for pair in (expected, expected[::-1])
    ]
    assert any(agree)


@pytest.mark.parametrize("scaling", ["centred", "min-max"])
def test_a_constant_map_is_black(scaling: Scaling) -> None:
    maps = torch.tensor([0.3, -0.3, 0.0])[:, None, None].expand(-1, 4, 4)
    assert not scaled(maps, (8, 8), scaling=scaling).any()


def test_scaling_by_numpy() -> None:
    maps = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(2))
    raw = maps.numpy()
    centred = np.maximum(raw - raw.mean((1, 2), keepdims=True), 0)
    cut = np.maximum(raw, 0)
    low, high = (edge((1, 2), keepdims=True) for edge in (cut.min, cut.max))
    for scaling, expected in (
        ("centred", centred / centred.max((1, 2), keepdims=True)),
        ("min-max", (cut - low) / (high - low)),
    ):
        found = scaled(maps, (6, 6), scaling=scaling)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_score_has_the_softmaxs_gradient_up_to_a_factor() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    (of_score,) = torch.autograd.grad(log_odds(logits, labels).sum(), logits)
    chosen = logits.softmax(1)[torch.arange(6), labels]
    (of_softmax,) = torch.autograd.grad(chosen.sum(), logits)
    factor = (chosen * (1 - chosen)).detach()[:, None]
    torch.testing.assert_close(factor * of_score, of_softmax)
    # and is there where the softmax's is lost
    sure = torch.tensor([[200.0, 0.0, 1.0]], requires_grad=True)
    log_odds(sure, torch.tensor([0])).sum().backward()
    assert sure.grad is not None
    torch.testing.assert_close(sure.grad, torch.tensor([[1.0, -0.26894143, -0.7310586]]))


@pytest.mark.parametrize("topdown", [False, True])
def test_no_digit_that_a_trained_network_gets_right_has_a_black_heatmap(topdown: bool) -> None:
    digits = load("digits")
    images, labels = as_floats(digits.train_images[:600]), digits.train_labels[:600]
    torch.manual_seed(0)
    network: nn.Module = lenet_fc()
    if topdown:
        network = to_topdown(network, input_size=DIGIT)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)
    for _ in range(10):
        for batch in torch.randperm(600).split(60):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    right = network(images).argmax(1) == labels
    assert right.float().mean() > 0.7
    explainer = Explainer(network, input_size=DIGIT)
    maps = explainer.maps(images[right], labels[right], layers=[explainer.last])[0]
    for scaling in get_args(Scaling):
        heatmaps = scaled(maps, DIGIT[1:], scaling=scaling)
        assert (heatmaps.flatten(1).amax(1) == 1).all()


@pytest.mark.parametrize(
    ("make", "size", "layer", "place"),
    [
        (resnet18, PHOTO, 4, "layer4"),
        (resnet18, PHOTO, 2, "layer2"),
        (resnet32, SMALL, 1, "stage1"),
        (topdown_lenet, DIGIT, 1, "levels.1.stage.features.stage2.0.act"),
    ],
)
def test_same_as_torchcam_where_a_module_ends_the_level(
    make: Callable[[], nn.Module], size: tuple[int, int, int], layer: int, place: str
) -> None:
    network = trained_a_little(make(), size)
    images = torch.rand(6, *size)
    labels = network(images).argmax(1)
    expected = torchcam_maps(network, place, images, labels)
    explainer = Explainer(network, input_size=size)
    found = explainer.heatmaps(images, labels, layers=[explainer.layers[layer]], scaling="min-max")[
        0
    ]
    assert explainer.layers[layer].size == tuple(expected.shape[1:])
    spoken = expected.flatten(1).any(1)
    assert spoken.any()
    torch.testing.assert_close(
        found[spoken], scaled_by_hand(expected[spoken], size[1:]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("make", "size", "bottom_up", "top_down", "last"),
    [
        (lenet_fc, DIGIT, [28, 14, 7], [7, 14, 28], ("classifier_act", "head_classifier_act")),
        (nin_light, DIGIT, [28, 14, 7], [7, 14, 28], ("classifier_act", "head_classifier_act")),
        (nin, SMALL, [32, 16, 8], [8, 16, 32], ("classifier_act", "head_classifier_act")),
        (resnet32, SMALL, [32, 32, 16, 8], [8, 16, 32], ("relu_30", "relu_30")),
        (
            resnet18,
            PHOTO,
            [16, 16, 8, 4, 2],
            [2, 8, 16, 32, 64],
            ("layer4_1_relu_1", "levels_4_stage_layer1_1_relu_1"),
        ),
    ],
)
def test_levels_of_the_papers_networks(
    make: Callable[[], nn.Module],
    size: tuple[int, int, int],
    bottom_up: list[int],
    top_down: list[int],
    last: tuple[str, str],
) -> None:
    network = make()
    td = to_topdown(network, input_size=size)
    for explained, sides, node in zip((network, td), (bottom_up, top_down), last, strict=True):
        explainer = Explainer(explained, input_size=size)
        assert [layer.size for layer in explainer.layers] == [(s, s) for s in sides]
        names = [layer.name for layer in explainer.layers]
        assert names == [f"Layer {i}" for i in range(1, len(sides) + 1)]
        assert explainer.last == explainer.layers[-1]
        assert explainer.last.node == node
        assert explainer.last.size == (sides[-1], sides[-1])


def test_a_pooling_that_the_plan_adds_is_not_the_last_level() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 7, 10),
        )  # fmt: skip
        td = to_topdown(flat, input_size=(1, 14, 14))
    explainer = Explainer(td, input_size=(1, 14, 14))
    assert explainer.last.size == (14, 14)
    assert explainer.layers[-1].size == (14, 14)


def test_normalisation_belongs_to_the_network() -> None:
    for arrangement in ("bu", "td"):
        network = build("lenet-fc", arrangement=arrangement, size=DIGIT, classes=10)  # type: ignore[arg-type]
        trained_a_little(network, DIGIT)
        images = torch.rand(6, *DIGIT)
        labels = network(images).argmax(1)
        explainer = Explainer(network, input_size=DIGIT)
        place = "network." + explainer.last.node.replace("head_", "head.").replace("_act", ".act")
        expected = torchcam_maps(network, place, images, labels)
        spoken = expected.flatten(1).any(1)
        assert spoken.any()
        found = explainer.heatmaps(images, labels, layers=[explainer.last], scaling="min-max")[0]
        torch.testing.assert_close(
            found[spoken], scaled_by_hand(expected[spoken], (28, 28)), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("topdown", [False, True])
def test_the_network_is_left_as_it_was(topdown: bool) -> None:
    bu: nn.Module = resnet32()
    network = to_topdown(bu, input_size=SMALL) if topdown else bu
    network.train()
    frozen = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    network(torch.rand(2, *SMALL)).sum().backward()
    modes = [m.training for m in network.modules()]
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    state = copy.deepcopy(network.state_dict())
    names = [name for name, _ in network.named_modules()]
    images = torch.rand(2, *SMALL)
    before = images.clone()

    Explainer(network, input_size=SMALL).heatmaps(images, torch.tensor([0, 1]))

    assert [m.training for m in network.modules()] == modes
    assert not frozen.training
    assert all(
        torch.equal(p.grad, g) for p, g in zip(network.parameters(), gradients, strict=True)
        if p.grad is not None
    )  # fmt: skip
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert [name for name, _ in network.named_modules()] == names
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert all(p.requires_grad for p in network.parameters())


def test_a_frozen_network_under_no_grad_has_heatmaps_too() -> None:
    network = trained_a_little(resnet32(), SMALL).requires_grad_(False)
    with torch.no_grad():
        found = Explainer(network, input_size=SMALL).heatmaps(
            torch.rand(2, *SMALL), torch.tensor([0, 1])
        )
        assert not torch.is_grad_enabled()
    assert found.shape == (4, 2, 32, 32)
    assert 0 <= found.min() < found.max() == 1


def test_batches_make_no_difference() -> None:
    network = trained_a_little(topdown_lenet(), DIGIT)
    explainer = Explainer(network, input_size=DIGIT)
    images, labels = torch.rand(7, *DIGIT), torch.arange(7)
    whole, pieces = (explainer.heatmaps(images, labels, batch=n) for n in (7, 3))
    torch.testing.assert_close(whole, pieces, atol=1e-4, rtol=1e-4)


def test_the_error_for_an_unknown_scaling_names_those_there_are() -> None:
    explainer = Explainer(lenet_fc(), input_size=DIGIT)
    with pytest.raises(BenchmarkError, match=r"scaling.*'softmax'.*'centred' or 'min-max'"):
        explainer.heatmaps(torch.rand(1, *DIGIT), torch.tensor([0]), scaling="softmax")  # type: ignore[arg-type]
