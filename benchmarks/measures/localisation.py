"""Weakly supervised localisation: heatmaps against objects (paper, 4.3 b)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.measures.localisation_boxes import best_threshold, right_boxes

THRESHOLD = 0.2

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Localisation:
    """How well heatmaps find objects; every figure is a share from 0 to 1, nan where undefined.

    The first three hang on the threshold of the heatmaps, the others don't.

    Args:
        precision: of the pixels that the heatmaps mark, those that belong to objects; all images
            together.
        recall: of the objects' pixels, those that the heatmaps mark; all images together.
        iou: intersection over union, the mean over images.
        pxap: area under the pixel precision-recall curve, the mean over images. (Choe et al. 2020
            take the pixels of all images together; image by image two networks can be paired.)
        inside: the share of a heatmap's sum that lies on the object, the mean over images.
        pointing: images whose heatmap has its maximum on the object (the pointing game, without
            tolerance). Where several pixels share it, an image counts as the share of them on the
            object; a black heatmap points nowhere.
        box: heatmaps whose box is right (`localisation_boxes`), at the threshold that is best on
            held-out images, of the images that are not held out.
        images: how many there are.
    """

    precision: float
    recall: float
    iou: float
    pxap: float
    inside: float
    pointing: float
    box: float
    images: int


FIGURES = tuple(field.name for field in fields(Localisation) if field.name != "images")
# whose image-by-image values have a mean; the pixels of the others are counted over all images
OWN_VALUES = ("iou", "pxap", "inside", "pointing", "box")

# Every so manieth image is held out to choose the boxes' threshold.
HELD_OUT_STEP = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """Heatmaps against objects, image by image; all of shape (N,), nan where undefined.

    Args:
        hits: pixels marked by the heatmap that belong to the object (true positives).
        misplaced: marked pixels outside it (false positives).
        missed: its pixels that aren't marked (false negatives).
        iou, pxap, inside, pointing, box: see `Localisation`; `box` is nan for held-out images.
        box_threshold: the one that was chosen; nan where no image was held out.
    """

    hits: Array
    misplaced: Array
    missed: Array
    iou: Array
    pxap: Array
    inside: Array
    pointing: Array
    box: Array
    box_threshold: float

    def figures(self) -> Localisation:
        """Over all images.

        Example:
            >>> heatmaps = torch.tensor([[[0.9, 0.5], [0.1, 0.0]]])
            >>> objects = torch.tensor([[[True, False], [True, False]]])
            >>> found = compare(heatmaps, objects).figures()
            >>> found.precision, found.recall, found.pointing
            (0.5, 0.5, 1.0)
        """
        return Localisation(
            precision=_share(self.hits.sum(), (self.hits + self.misplaced).sum()),
            recall=_share(self.hits.sum(), (self.hits + self.missed).sum()),
            **{name: mean(getattr(self, name)) for name in OWN_VALUES},
            images=len(self.hits),
        )


def compare(heatmaps: Tensor, objects: Tensor, *, threshold: float = THRESHOLD) -> Comparison:
    """Compare heatmaps with objects, image by image.

    Args:
        heatmaps: (N, H, W) with values in [0, 1].
        objects: the pixels of the objects, (N, H, W), bool.
        threshold: a heatmap marks the pixels where it is greater.

    Raises:
        BenchmarkError: the shapes differ, or `objects` isn't bool.
    """
    if heatmaps.shape != objects.shape or heatmaps.ndim != 3 or objects.dtype != torch.bool:
        raise BenchmarkError(
            "argument 'objects'", seen=f"{objects.dtype} of shape {tuple(objects.shape)}",
            expected=f"torch.bool of the heatmaps' shape, {tuple(heatmaps.shape)}, (N, H, W)",
            remedy="compare images or masks with a threshold first (see localisation_objects)",
        )  # fmt: skip
    heat, mask = heatmaps.cpu().double().flatten(1).numpy(), objects.cpu().flatten(1).numpy()
    marked = heat > threshold
    hits, union = (marked & mask).sum(1), (marked | mask).sum(1)
    box, box_threshold = _boxes(heatmaps, objects)
    return Comparison(
        hits=hits,
        misplaced=(marked & ~mask).sum(1),
        missed=(~marked & mask).sum(1),
        iou=_shares(hits, union),
        pxap=_precision_areas(heat, mask),
        inside=_shares((heat * mask).sum(1), heat.sum(1)),
        pointing=_pointing(heat, mask),
        box=box,
        box_threshold=box_threshold,
    )


def mean(values: Array) -> float:
    """Over the images where it is defined; nan where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _boxes(heatmaps: Tensor, objects: Tensor) -> tuple[Array, float]:
    """Is the box right, image by image, and the threshold at which it was looked at."""
    held_out = torch.arange(len(heatmaps)) % HELD_OUT_STEP == 0
    right = np.full(len(heatmaps), math.nan)
    if held_out.all():
        return right, math.nan
    threshold = best_threshold(heatmaps[held_out], objects[held_out])
    kept = ~held_out
    right[kept.numpy()] = right_boxes(heatmaps[kept], objects[kept], threshold=threshold)
    return right, threshold


def _pointing(heat: Array, mask: npt.NDArray[np.bool_]) -> Array:
    peaks = (heat == heat.max(1, keepdims=True, initial=0)) & (heat > 0)
    return np.asarray((peaks & mask).sum(1) / np.maximum(peaks.sum(1), 1), dtype=float)


def _precision_areas(heat: Array, mask: npt.NDArray[np.bool_]) -> Array:
    """The average precision of each image's pixels; nan where it has no object."""
    from sklearn.metrics import average_precision_score

    return np.array(
        [
            average_precision_score(own, values) if own.any() else math.nan
            for own, values in zip(mask, heat, strict=True)
        ],
        dtype=float,
    )


def _shares(parts: Array, wholes: Array) -> Array:
    shares = np.full(len(parts), math.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
