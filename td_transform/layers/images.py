"""The images that a network reads, and what can't be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

from td_transform.errors import TopDownError
from td_transform.layers.dimensions import DIMENSIONS


class ImageReader(nn.Module):
    """What reads one image for all levels, or one for each.

    Args:
        strides: input pixels per step of each level, from coarse to fine: along every axis, or one
            each.
        skipped: strides of levels that nothing reads.
        preprocess: what the bottom-up model did to the image before its first learned layer.
        axes: of the image, where the strides don't say how many.
        channels: of the image that the levels are made of; None for any.
    """

    def __init__(
        self,
        strides: Sequence[int | tuple[int, ...]],
        skipped: Sequence[int | tuple[int, ...]],
        preprocess: nn.Module | None,
        axes: int,
        channels: int | None,
    ) -> None:
        super().__init__()
        # sizes are not asked, so that a network can be traced again
        self.axes = next((len(stride) for stride in strides if isinstance(stride, tuple)), axes)
        self.strides = tuple(short(stride) for stride in strides)
        self.skipped = tuple(short(stride) for stride in skipped)
        self.preprocess = preprocess
        self.channels = channels

    def sources(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The full image of every level.

        Raises:
            TopDownError: there are too many or too few, of several sizes, or one has other axes or
                channels, or holds integers.
        """
        if not isinstance(images, (tuple, list)):
            return (self._source(images),) * len(self.strides)
        read = len(self.strides) - len(self.skipped)
        if len(images) != read:
            raise TopDownError(
                "images",
                seen=f"a sequence of {len(images)}",
                expected=f"one tensor (N, C, {DIMENSIONS[self.axes].sides}), or {read} of the full "
                "size, one per level from fine to coarse",
                remedy="pass one batch of images, or one for every level",
            )
        given = [self._source(image) for image in images]
        if any(image.shape != given[0].shape for image in given):
            raise TopDownError(
                "images",
                seen=" and ".join(str(tuple(image.shape)) for image in given),
                expected="images of one size, the full one, for every level",
                remedy="leave the downsampling to the network: pass the images as they are",
            )
        coarse_first = reversed(given)
        return tuple(
            given[0] if stride in self.skipped else next(coarse_first) for stride in self.strides
        )

    def _source(self, image: Any) -> Tensor:
        image = batched(image, self.axes)
        if self.preprocess is not None:
            image = self.preprocess(image)
        return readable(image, self.channels)


def short(stride: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all axes agree."""
    return stride if isinstance(stride, int) or len(set(stride)) > 1 else stride[0]


@fx.wrap
def batched(images: Any, axes: int) -> Tensor:
    """The images, which are a batch.

    Raises:
        TopDownError: they are no tensor, or have another number of dimensions.
    """
    known = isinstance(images, Tensor)
    if known and images.dim() == axes + 2:
        return images  # type: ignore[no-any-return]
    single, sides = known and images.dim() == axes + 1, DIMENSIONS[axes].sides if axes else ""
    raise TopDownError(
        "images",
        seen=f"a tensor of shape {tuple(images.shape)}" if known else f"a {type(images).__name__}",
        expected=f"a batch of images ({', '.join(filter(None, ('N, C', sides)))}), a tensor",
        remedy="pass x[None], a batch of one image" if single else "pass one batch of images",
    )


@fx.wrap
def readable(image: Any, channels: int | None) -> Tensor:
    """The image, of as many channels, whose values are no integers.

    Raises:
        TopDownError: it isn't.
    """
    if channels is not None and image.shape[1] != channels:
        raise TopDownError(
            "images",
            seen=f"{image.shape[1]} channels in a tensor of shape {tuple(image.shape)}",
            expected=f"{channels}, as in the images that the model was converted for",
            remedy=f"pass images of {channels} channels, or convert the model for others",
        )
    if not (image.is_floating_point() or image.is_complex()):
        raise TopDownError(
            "images",
            seen=f"values of type {image.dtype}",
            expected="floating-point values, as the network's parameters are",
            remedy="pass images.float() / 255, or as the network was trained",
        )
    return image  # type: ignore[no-any-return]
