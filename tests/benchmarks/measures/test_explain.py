"""Grad-CAM at every level: against values worked out by hand, and against TorchCAM's own hooks."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchcam.methods import GradCAM

from benchmarks.errors import BenchmarkError
from benchmarks.measures.explain import Explainer
from benchmarks.subjects.models import lenet_fc, nin, nin_light, resnet32
from benchmarks.subjects.networks import build
from td_transform import to_topdown
from td_transform.torchvision_cpu import import_torchvision

DIGIT, SMALL, PHOTO = (1, 28, 28), (3, 32, 32), (3, 64, 64)


def resnet18() -> nn.Module:
    return import_torchvision().models.resnet18(num_classes=10)  # type: ignore[no-any-return]


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
    full = F.interpolate(maps[:, None], size=size, mode="bilinear")[:, 0]
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
    """With its hook on the network's own module."""
    with GradCAM(network, target_layer=place) as extractor:
        maps: list[Tensor] = extractor(labels.tolist(), network(images), normalized=False)
    return maps[0]


def test_grad_cam_of_a_linear_network_is_the_weighted_sum_of_its_maps() -> None:
    network = linear_network()
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1])
    first, second = (network[i].weight.detach()[:, :, 0, 0] for i in (0, 2))
    classes = network[5].weight.detach()
    # d logit / d map, averaged over the map, up to a factor that scaling takes away
    weights = {"Layer 2": classes[labels], "Layer 1": classes[labels] @ second}
    maps = {"Layer 1": torch.einsum("kc,nchw->nkhw", first, images)}
    maps["Layer 2"] = torch.einsum("kc,nchw->nkhw", second, F.avg_pool2d(maps["Layer 1"], 2))
    explainer = Explainer(network, input_size=(1, 8, 8))
    found = explainer.heatmaps(images, labels, batch=2)
    for layer, heatmaps in zip(explainer.layers, found, strict=True):
        by_hand = torch.einsum("nk,nkhw->nhw", weights[layer.name], maps[layer.name]).clamp(min=0)
        for heatmap, expected in zip(heatmaps, by_hand, strict=True):
            if expected.any():
                torch.testing.assert_close(
                    heatmap, scaled_by_hand(expected[None], (8, 8))[0], atol=1e-5, rtol=1e-4
                )
            else:
                assert not heatmap.any()


def test_centred_scaling_cuts_what_lies_below_the_mean() -> None:
    network = linear_network()
    network[5].weight.data.abs_()
    network[2].weight.data.abs_()
    network[0].weight.data.abs_()
    images = torch.rand(1, 1, 8, 8)
    explainer = Explainer(network, input_size=(1, 8, 8))
    first = explainer.layers[:1]
    found = explainer.heatmaps(images, torch.tensor([0]), layers=first, scaling="centred")
    above = (images[0, 0] - images.mean()).clamp(min=0)
    torch.testing.assert_close(found[0, 0], above / above.max(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "size", "layer", "place"),
    [
        (resnet18(), PHOTO, 4, "layer4"),
        (resnet18(), PHOTO, 2, "layer2"),
        (resnet32(), SMALL, 1, "stage1"),
        (
            to_topdown(lenet_fc(), input_size=DIGIT),
            DIGIT,
            1,
            "levels.1.stage.features.stage2.0.act",
        ),
    ],
)
def test_same_as_torchcam_where_a_module_ends_the_level(
    network: nn.Module, size: tuple[int, int, int], layer: int, place: str
) -> None:
    trained_a_little(network, size)
    images = torch.rand(6, *size)
    labels = network(images).argmax(1)
    expected = torchcam_maps(network, place, images, labels)
    explainer = Explainer(network, input_size=size)
    found = explainer.heatmaps(images, labels, layers=[explainer.layers[layer]])[0]
    assert explainer.layers[layer].size == tuple(expected.shape[1:])
    spoken = expected.flatten(1).any(1)
    assert spoken.any()
    torch.testing.assert_close(
        found[spoken], scaled_by_hand(expected[spoken], size[1:]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("network", "size", "bottom_up", "top_down", "last"),
    [
        (lenet_fc(), DIGIT, [28, 14, 7], [7, 14, 28], ("classifier_act", "head_classifier_act")),
        (nin_light(), DIGIT, [28, 14, 7], [7, 14, 28], ("classifier_act", "head_classifier_act")),
        (nin(), SMALL, [32, 16, 8], [8, 16, 32], ("classifier_act", "head_classifier_act")),
        (resnet32(), SMALL, [32, 32, 16, 8], [8, 8, 16, 32], ("relu_30", "relu_30")),
        (
            resnet18(),
            PHOTO,
            [16, 16, 8, 4, 2],
            [2, 8, 16, 32, 64],
            ("layer4_1_relu_1", "levels_4_stage_layer1_1_relu_1"),
        ),
    ],
)
def test_levels_of_the_papers_networks(
    network: nn.Module,
    size: tuple[int, int, int],
    bottom_up: list[int],
    top_down: list[int],
    last: tuple[str, str],
) -> None:
    td = to_topdown(network, input_size=size)
    for explained, sides, node in zip((network, td), (bottom_up, top_down), last, strict=True):
        explainer = Explainer(explained, input_size=size)
        assert [layer.size for layer in explainer.layers] == [(s, s) for s in sides]
        names = [layer.name for layer in explainer.layers]
        assert names == [f"Layer {i}" for i in range(1, len(sides) + 1)]
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
        found = explainer.heatmaps(images, labels, layers=[explainer.last])[0]
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
    network = trained_a_little(to_topdown(lenet_fc(), input_size=DIGIT), DIGIT)
    explainer = Explainer(network, input_size=DIGIT)
    images, labels = torch.rand(7, *DIGIT), torch.arange(7)
    whole, pieces = (explainer.heatmaps(images, labels, batch=n) for n in (7, 3))
    torch.testing.assert_close(whole, pieces, atol=1e-4, rtol=1e-4)


def test_the_error_for_an_unknown_scaling_names_those_there_are() -> None:
    explainer = Explainer(lenet_fc(), input_size=DIGIT)
    with pytest.raises(BenchmarkError, match=r"scaling.*'softmax'.*'min-max' or 'centred'"):
        explainer.heatmaps(torch.rand(1, *DIGIT), torch.tensor([0]), scaling="softmax")  # type: ignore[arg-type]
