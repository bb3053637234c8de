"""Boxes around what heatmaps mark, against the objects' boxes.

As in MaxBoxAcc (Choe et al. 2020, "Evaluating weakly supervised object localization methods
right"): the box of the largest connected part of the marked pixels has to overlap the object's box
by half, and the threshold is the one that serves the heatmaps best. It is chosen on held-out images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

BOX_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
OVERLAP = 0.5

Mask = npt.NDArray[np.bool_]
# first row, row after the last, first column, column after the last
Box = tuple[int, int, int, int]


def right_boxes(heatmaps: Tensor, objects: Tensor, *, threshold: float) -> npt.NDArray[np.bool_]:
    """Which heatmaps' boxes overlap the object's by half or more (intersection over union).

    Args:
        heatmaps: (N, H, W) with values in [0, 1].
        objects: the pixels of the objects, (N, H, W), bool; one box goes round all of an image's.
        threshold: a heatmap marks the pixels where it is greater.

    Returns:
        (N,).
    """
    marked = (heatmaps > threshold).cpu().numpy()
    pairs = zip(marked, objects.cpu().numpy(), strict=True)
    return np.array(
        [overlap(box_of(largest_part(m)), box_of(o)) >= OVERLAP for m, o in pairs], dtype=np.bool_
    )


def best_threshold(heatmaps: Tensor, objects: Tensor) -> float:
    """The threshold with the most right boxes, the least where several have as many."""
    return max(BOX_THRESHOLDS, key=lambda t: int(right_boxes(heatmaps, objects, threshold=t).sum()))


def largest_part(mask: Mask) -> Mask:
    """The largest 4-connected part of a mask (H, W)."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    return np.asarray(parts == 1 + sizes[1:].argmax(), dtype=np.bool_)


def box_of(mask: Mask) -> Box | None:
    """The smallest box round a mask's pixels; None where it has none.

    Example:
        >>> box_of(np.array([[False, True, True], [False, False, True]]))
        (0, 2, 1, 3)
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def overlap(one: Box | None, other: Box | None) -> float:
    """Intersection over union, 0 where there is no box.

    Example:
        >>> overlap((0, 2, 0, 2), (1, 3, 0, 2))
        0.3333333333333333
    """
    if one is None or other is None:
        return 0.0
    height = min(one[1], other[1]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[2], other[2])
    common = max(height, 0) * max(width, 0)
    return common / (_area(one) + _area(other) - common)


def _area(box: Box) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])
