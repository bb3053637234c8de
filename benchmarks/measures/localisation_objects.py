"""The objects that heatmaps should find: their pixels, from the images or from a user's masks."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.measures.localisation import THRESHOLD
from benchmarks.subjects.datasets import ON_BLACK


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
