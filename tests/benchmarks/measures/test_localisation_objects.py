"""The objects' pixels, from images on black and from masks."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import BenchmarkError
from benchmarks.measures.localisation_objects import black_background_objects, mask_objects


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
