"""Drop, increase, deletion and insertion: against TorchCAM's metric and on a network by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchcam.methods import GradCAM
from torchcam.metrics import ClassificationMetric

from benchmarks.measures.explain_faithfulness import STEPS, faithfulness, heat_ranks

CHANCE = torch.ones(3, 10, 10)


class Corner(nn.Module):
    """Two classes: how bright is the upper left quarter, and nothing."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, :, :5, :5].mean((1, 2, 3))
        return torch.stack([40 * bright - 20, torch.zeros_like(bright)], dim=1)


def bright_corner() -> Tensor:
    images = torch.zeros(3, 1, 10, 10)
    images[:, :, :5, :5] = 1
    return images


def test_drop_and_increase_agree_with_torchcam() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip
    images = torch.rand(12, 3, 8, 8)
    with GradCAM(network, target_layer="1") as extractor:
        metric = ClassificationMetric(extractor, lambda logits: logits.softmax(1))
        labels = torch.arange(12) % 4
        for image, label in zip(images, labels.tolist(), strict=True):
            metric.update(image[None], label)
        theirs = metric.summary()
        maps = [extractor(label, network(image[None]).softmax(1))[0][0]
                for image, label in zip(images, labels.tolist(), strict=True)]  # fmt: skip
    found = faithfulness(network, images, labels, torch.stack(maps).detach())
    assert found.drop.mean() == pytest.approx(theirs["avg_drop"], rel=1e-4)
    assert found.increase.mean() == pytest.approx(theirs["conf_increase"])


def test_a_heatmap_on_what_the_network_looks_at_is_faithful() -> None:
    labels = torch.zeros(3, dtype=torch.long)
    images = bright_corner()
    good = faithfulness(Corner(), images, labels, images[:, 0])
    bad = faithfulness(Corner(), images, labels, 1 - images[:, 0])
    chance = faithfulness(Corner(), images, labels, CHANCE)
    assert good.drop.max() < 1e-6
    assert bad.drop.min() > 0.99
    assert (good.deletion < chance.deletion).all()
    assert (chance.deletion < bad.deletion).all()
    assert (good.insertion > chance.insertion).all()
    assert (chance.insertion > bad.insertion).all()
    np.testing.assert_allclose(good.marked, 0.25)
    np.testing.assert_allclose(chance.marked, 1)


def test_deletion_by_hand() -> None:
    """A quarter of the pixels is gone after 2.5 of 10 steps; the mean colour is 1/4."""
    bright = [1 - 0.75 * min(1.0, step / STEPS / 0.25) for step in range(STEPS + 1)]
    # the other pixels, too, become 1/4, which the network doesn't see
    expected = np.mean([1 / (1 + np.exp(20 - 40 * value)) for value in bright])
    images = bright_corner()
    found = faithfulness(Corner(), images, torch.zeros(3, dtype=torch.long), images[:, 0])
    np.testing.assert_allclose(found.deletion, expected, rtol=1e-6)


def test_ranks_follow_the_heat_and_ties_come_in_no_order() -> None:
    heat = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    assert heat_ranks(heat, seed=0).tolist() == [[[3, 0], [1, 2]]]
    even = heat_ranks(torch.ones(1, 20, 20), seed=0)
    assert sorted(even.flatten().tolist()) == list(range(400))
    # the upper half is not the first
    assert 150 < even[:, :10].double().mean() < 250
