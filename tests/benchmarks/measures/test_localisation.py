"""Precision, recall, IoU and pointing game, against scikit-learn's metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, precision_score, recall_score

from benchmarks.errors import BenchmarkError
from benchmarks.measures.localisation import (
    black_background_objects,
    compare,
    localisation,
    mask_objects,
)


def test_agrees_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(5)
    heatmaps = torch.rand(40, 9, 7, generator=generator)
    objects = torch.rand(40, 9, 7, generator=generator) > 0.6
    halves = [
        compare(heatmaps[part], objects[part], threshold=0.3)
        for part in (slice(15), slice(15, None))
    ]
    found = localisation(halves)
    marked, true = (heatmaps > 0.3).flatten(1).numpy(), objects.flatten(1).numpy()
    assert found.precision == pytest.approx(precision_score(true.ravel(), marked.ravel()))
    assert found.recall == pytest.approx(recall_score(true.ravel(), marked.ravel()))
    assert found.iou == pytest.approx(jaccard_score(true, marked, average="samples"))
    peaks = heatmaps.flatten(1).numpy().argmax(1)
    assert found.pointing == pytest.approx(np.take_along_axis(true, peaks[:, None], 1).mean())
    assert found.images == 40


def test_perfect_empty_and_nothing() -> None:
    objects = torch.zeros(2, 4, 4, dtype=torch.bool)
    objects[:, 1:3, 1:3] = True
    perfect = localisation([compare(objects.float(), objects)])
    assert (perfect.precision, perfect.recall, perfect.iou, perfect.pointing) == (1, 1, 1, 1)
    silent = localisation([compare(torch.zeros(2, 4, 4), objects)])
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.iou, silent.pointing) == (0, 0, 0)
    none = localisation([compare(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool))])
    assert none.images == 0
    assert math.isnan(none.recall)
    assert math.isnan(none.iou)


def test_the_threshold_itself_is_not_marked() -> None:
    found = compare(torch.full((1, 1, 2), 0.25), torch.ones(1, 1, 2).bool(), threshold=0.25)
    assert (found.hits.tolist(), found.missed.tolist()) == ([0], [2])


def test_objects_on_black_are_cut_out_by_the_threshold() -> None:
    image = torch.tensor([[0.0, 0.2], [0.21, 1.0]])[None, None]
    objects = black_background_objects(image, data="mnist")
    assert objects.tolist() == [[[False, False], [True, True]]]


def test_other_data_sets_need_masks() -> None:
    with pytest.raises(BenchmarkError, match=r"cifar10.*digits or mnist or fashion-mnist.*--masks"):
        black_background_objects(torch.rand(2, 3, 4, 4), data="cifar10")


def test_masks_have_to_fit_the_images() -> None:
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    masks = (torch.rand(2, 1, 4, 4) > 0.5).float()
    objects = mask_objects(masks, labels, images=images, labels=labels, threshold=0.2)
    assert torch.equal(objects, masks[:, 0].bool())
    for wrong, classes in (
        (masks, labels.flip(0)),
        (masks[:1], labels[:1]),
        (masks[..., 1:], labels),
    ):
        with pytest.raises(BenchmarkError, match="one mask for each of the 2 test images of 4×4"):
            mask_objects(wrong, classes, images=images, labels=labels, threshold=0.2)


def test_objects_have_to_be_bool() -> None:
    with pytest.raises(BenchmarkError, match=r"float32.*torch.bool.*threshold first"):
        compare(torch.rand(1, 2, 2), torch.rand(1, 2, 2))
