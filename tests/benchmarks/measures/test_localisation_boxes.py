"""Boxes: against torchvision's, and on drawn cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.measures.localisation_boxes import (
    best_threshold,
    box_of,
    largest_part,
    overlap,
    right_boxes,
)
from td_transform.torchvision_cpu import import_torchvision


def test_boxes_and_overlaps_agree_with_torchvision() -> None:
    ops = import_torchvision().ops
    masks = torch.rand(20, 9, 7, generator=torch.Generator().manual_seed(4)) > 0.9
    masks = masks[masks.flatten(1).any(1)]
    boxes = [box_of(mask) for mask in masks.numpy()]
    # theirs are x1, y1, x2, y2, and the last pixel is inside
    theirs = ops.masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    ours = torch.tensor([(b[2], b[0], b[3], b[1]) for b in boxes if b])
    assert torch.equal(ours.float(), theirs)
    found = torch.tensor([[overlap(one, other) for other in boxes] for one in boxes])
    torch.testing.assert_close(found, ops.box_iou(theirs, theirs))


@pytest.mark.parametrize(
    ("drawn", "part"),
    [
        (["##..", "##..", "...#"], ["##..", "##..", "...."]),
        # corners do not touch
        (["#...", ".##.", ".##."], ["....", ".##.", ".##."]),
        (["....", "....", "...."], ["....", "....", "...."]),
        (["####", "#...", "...."], ["####", "#...", "...."]),
    ],
)
def test_the_largest_part(drawn: list[str], part: list[str]) -> None:
    mask, expected = (np.array([[c == "#" for c in line] for line in p]) for p in (drawn, part))
    assert np.array_equal(largest_part(mask), expected)


def test_half_an_overlap_is_enough_and_a_lone_hot_pixel_does_not_spoil_the_box() -> None:
    objects = torch.zeros(3, 8, 8, dtype=torch.bool)
    objects[:, :4, :4] = True
    heatmaps = torch.zeros(3, 8, 8)
    heatmaps[0, :4, :2] = 0.9
    heatmaps[1, :4, :1] = 0.9
    heatmaps[2, :4, :4], heatmaps[2, 7, 7] = 0.5, 1.0
    assert right_boxes(heatmaps, objects, threshold=0.2).tolist() == [True, False, True]
    assert right_boxes(heatmaps, objects, threshold=0.6).tolist() == [True, False, False]


def test_the_best_threshold_has_the_most_right_boxes() -> None:
    objects = torch.zeros(2, 8, 8, dtype=torch.bool)
    objects[:, :3, :3] = True
    heatmaps = torch.where(objects, 0.8, 0.42)
    assert best_threshold(heatmaps, objects) == 0.45
    assert overlap(None, (0, 1, 0, 1)) == 0
