"""Weakly supervised localisation: heatmaps against objects (paper, 4.3 b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.subjects.datasets import ON_BLACK

THRESHOLD = 0.2


@dataclass(frozen=True)
class Localisation:
    """How well heatmaps find objects; every figure is a share from 0 to 1, nan where undefined.

    Args:
        precision: of the pixels that the heatmaps mark, those that belong to objects; all images
            together.
        recall: of the objects' pixels, those that the heatmaps mark; all images together.
        iou: intersection over union, the mean over images.
        pointing: images whose heatmap has its maximum, the first where several pixels share it, on
            the object (the pointing game, without tolerance).
        images: how many there are.
    """

    precision: float
    recall: float
    iou: float
    pointing: float
    images: int


FIGURES = tuple(field.name for field in fields(Localisation) if field.name != "images")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Heatmaps against objects, image by image; all of shape (N,).

    Args:
        hits: pixels marked by the heatmap that belong to the object (true positives).
        misplaced: marked pixels outside it (false positives).
        missed: its pixels that aren't marked (false negatives).
        pointed: is the heatmap's maximum on the object?
    """

    hits: Tensor
    misplaced: Tensor
    missed: Tensor
    pointed: Tensor


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
            remedy="compare images or masks with a threshold first (see black_background_objects)",
        )  # fmt: skip
    marked = heatmaps > threshold
    peaks = heatmaps.flatten(1).argmax(dim=1, keepdim=True)
    return Comparison(
        hits=(marked & objects).sum(dim=(1, 2)),
        misplaced=(marked & ~objects).sum(dim=(1, 2)),
        missed=(~marked & objects).sum(dim=(1, 2)),
        pointed=objects.flatten(1).gather(1, peaks)[:, 0],
    )


def localisation(comparisons: Sequence[Comparison]) -> Localisation:
    """The figures of all images of one or more comparisons.

    Example:
        >>> heatmaps = torch.tensor([[[0.9, 0.5], [0.1, 0.0]]])
        >>> objects = torch.tensor([[[True, False], [True, False]]])
        >>> found = localisation([compare(heatmaps, objects)])
        >>> found.precision, found.recall, found.pointing
        (0.5, 0.5, 1.0)
    """
    hits, misplaced, missed, pointed = (
        torch.cat([getattr(c, name) for c in comparisons])
        for name in ("hits", "misplaced", "missed", "pointed")
    )
    return Localisation(
        precision=_share(hits.sum(), (hits + misplaced).sum()),
        recall=_share(hits.sum(), (hits + missed).sum()),
        iou=(hits / (hits + misplaced + missed)).nanmean().item(),
        pointing=pointed.float().mean().item(),
        images=len(hits),
    )


def _share(part: Tensor, whole: Tensor) -> float:
    return part.item() / whole.item() if whole else math.nan


def require_black_background(data: str) -> None:
    """Make sure that a threshold cuts the objects of a data set out.

    Args:
        data: its name.

    Raises:
        BenchmarkError: its background isn't known to be black.
    """
    if data not in ON_BLACK:
        raise BenchmarkError(
            f"data {data!r}", seen="images whose background isn't known to be black",
            expected=" or ".join(ON_BLACK) + ", where a threshold cuts the object out",
            remedy="pass --masks with a data set of masks that is laid out like the images, "
            "for example imagefolder:/path",
        )  # fmt: skip


def black_background_objects(images: Tensor, *, data: str, threshold: float = THRESHOLD) -> Tensor:
    """Objects that stand on black, cut out by a threshold as in the paper.

    Args:
        images: (N, C, H, W) with values in [0, 1].
        data: the data set's name.
        threshold: an object's pixels are greater in one of the channels.

    Returns:
        The pixels of the objects, (N, H, W), bool.

    Raises:
        BenchmarkError: the data set's background isn't black.
    """
    require_black_background(data)
    return (images > threshold).any(dim=1)


def mask_objects(
    masks: Tensor, mask_labels: Tensor, *, images: Tensor, labels: Tensor, threshold: float
) -> Tensor:
    """Objects from a user's masks.

    Args:
        masks: (N, C, H, W) with values in [0, 1].
        mask_labels: the masks' classes, (N,).
        images: what they are masks of, (N, C, H, W).
        labels: the images' classes, (N,).
        threshold: an object's pixels are greater in one of the channels.

    Returns:
        The pixels of the objects, (N, H, W), bool.

    Raises:
        BenchmarkError: there isn't one mask of the image's size and class for every image.
    """
    fits = masks.shape[-2:] == images.shape[-2:] and torch.equal(mask_labels, labels)
    if not fits:
        raise BenchmarkError(
            "argument 'masks'",
            seen=f"{len(masks)} masks of {_by(masks)} pixels, or masks in another order",
            expected=f"one mask for each of the {len(images)} test images of {_by(images)} pixels, "
            "in their order and classes",
            remedy="give the masks the images' folders, file names and sizes",
        )  # fmt: skip
    return (masks > threshold).any(dim=1)


def _by(images: Tensor) -> str:
    return "×".join(map(str, images.shape[-2:]))
