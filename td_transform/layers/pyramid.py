"""The pyramid: the input image, blurred and downsampled to every level (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from td_transform.layers.dimensions import DIMENSIONS, by, per_axis
from td_transform.layers.images import ImageReader
from td_transform.taps import POINT, Plane, Taps

# numbers in a Gaussian matrix: an axis of some 4000 pixels
_LARGEST_MATRIX = 2**23
# and in one that is kept for the next image
_KEPT = 2**16

PyramidKind = Literal["gaussian", "blur", "antialias", "decimate", "maxpool"]


class Pyramid(ImageReader):
    """The input image, blurred and downsampled to every level (paper, 3.1).

    Every level is made from the full image; a level of stride f has ceil(H / f) rows.

    Args:
        strides: input pixels per step of each level, in the order of the output: along every axis,
            or one each.
        kind: `gaussian` has sigma f/2, support +-1.5 f, sample centres at (i + 1/2) f and weights
            renormalised at the border (TensorFlow's antialiased Gaussian resize); `blur` is a
            Gaussian of the given sigma, reflected at the border, then every f-th pixel;
            `antialias` is PyTorch's antialiased bilinear resize; `decimate` takes every f-th pixel;
            `maxpool` the maximum of f x f pixels.
        sigma: for `blur`: input pixels; by default f / 2.
        preprocess: what the bottom-up model did to the image before its first learned layer.
        skipped: strides of levels that nothing reads; they only have their level's size.
        axes: of the image, where the strides don't say how many.
        channels: of the image that the levels are made of; None for any.

    Raises:
        TopDownError: in `forward`, of an image of another number of axes or channels, or of integers.

    Example:
        >>> pyramid = Pyramid((4, 2, 1))
        >>> [level.shape[-1] for level in pyramid(torch.rand(1, 3, 29, 29))]
        [8, 15, 29]
    """

    def __init__(
        self,
        strides: Sequence[int | tuple[int, ...]],
        *,
        kind: PyramidKind = "gaussian",
        sigma: float | None = None,
        preprocess: nn.Module | None = None,
        skipped: Sequence[int | tuple[int, ...]] = (),
        axes: int = 2,
        channels: int | None = None,
    ) -> None:
        super().__init__(strides, skipped, preprocess, axes, channels)
        self.kind = kind
        self.sigma = sigma

    def forward(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of one image (N, C, H, W), or of one full-size image per level, fine to coarse."""
        return tuple(
            self.level(image, stride)
            for image, stride in zip(self.sources(images), self.strides, strict=True)
        )

    def level(self, image: Tensor, stride: int | tuple[int, ...]) -> Tensor:
        """One level: (N, C, ceil(H / stride), ceil(W / stride)), with as many axes as the image."""
        steps = per_axis(stride, self.axes)
        if set(steps) == {1}:
            return image
        if stride in self.skipped:
            return _every(image, steps)
        if self.kind == "gaussian":
            return _gaussian(image, steps)
        if self.kind == "antialias":
            return _antialiased(image, steps)
        if self.kind == "maxpool":
            level: Tensor = DIMENSIONS[len(steps)].maximum(image, steps, ceil_mode=True)
            return level
        if self.kind == "blur":
            image = self._blurred(image, steps)
        return _every(image, steps)

    def _blurred(self, image: Tensor, steps: tuple[int, ...]) -> Tensor:
        for axis, step in enumerate(steps, start=2):
            if step > 1:
                sigma = self.sigma if self.sigma is not None else step / 2
                image = _blur(image, axis, sigma, self.blur_radius(step))
        return image

    def reads(self, stride: int | tuple[int, ...], sizes: tuple[int, ...]) -> Plane:
        """The pixels of an image of these sizes that a position of a level reads."""
        steps = per_axis(stride, len(sizes))
        if stride in self.skipped:
            return tuple(Taps.window(1, step) for step in steps)
        return tuple(self.taps(step, size) for step, size in zip(steps, sizes, strict=True))

    def taps(self, stride: int, size: int) -> Taps:
        """The same along an axis of that size."""
        if stride == 1:
            return POINT
        if self.kind == "gaussian":
            # sample centres (i + 1/2) f and support 1.5 f: pixels (i - 1) f to (i + 2) f
            return Taps.window(3 * stride, stride, padding=stride)
        if self.kind == "antialias":
            return Taps.antialiased(Fraction(size, -(-size // stride)))
        if self.kind == "maxpool":
            return Taps.window(stride, stride)
        if self.kind == "blur":
            radius = self.blur_radius(stride)
            return Taps.window(2 * radius + 1, stride, padding=radius, boundary="reflect")
        return Taps.window(1, stride)

    def blur_radius(self, stride: int) -> int:
        """Pixels on each side of the `blur` window's centre: three standard deviations."""
        return max(1, round(3 * (self.sigma if self.sigma is not None else stride / 2)))

    def extra_repr(self) -> str:
        return f"strides={self.strides}, kind={self.kind}"


class OwnPyramid(ImageReader):
    """A pyramid whose levels modules of the user's own make, each from the full image.

    Args:
        levels: one a level, in the order of the output; None for a level that nothing reads.
        strides: input pixels per step of each level.
        preprocess: what the bottom-up model did to the image before its first learned layer.
        channels: of the image that the levels are made of; None for any.
    """

    def __init__(
        self,
        levels: Sequence[nn.Module | None],
        strides: Sequence[int | tuple[int, ...]],
        preprocess: nn.Module | None = None,
        channels: int | None = None,
    ) -> None:
        unread = [stride for stride, module in zip(strides, levels, strict=True) if module is None]
        super().__init__(strides, unread, preprocess, 2, channels)
        named = zip(self.strides, levels, strict=True)
        self.levels = nn.ModuleDict({_key(s): module for s, module in named if module is not None})

    def forward(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of one image (N, C, H, W), or of one full-size image per level, fine to coarse."""
        return tuple(
            _every(image, per_axis(stride, self.axes))
            if stride in self.skipped
            else self.levels[_key(stride)](image)
            for image, stride in zip(self.sources(images), self.strides, strict=True)
        )


def _every(image: Tensor, steps: tuple[int, ...]) -> Tensor:
    """Every so many pixels: a view."""
    return image[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]


def _key(stride: int | tuple[int, ...]) -> str:
    return str(stride) if isinstance(stride, int) else by(stride)


@fx.wrap
def gaussian_matrix(size: int, factor: int, like: Tensor) -> Tensor:
    """Weights (ceil(size / factor), size) of a Gaussian downsampling: sigma = factor / 2 pixels."""
    # what traces has to see how it is made, and on a GPU it might lie in a graph's own memory
    plain = type(like) is Tensor and like.is_cpu and not torch.compiler.is_compiling()
    make = _kept_weights if plain and size * size <= _KEPT * factor else _gaussian_weights
    return make(size, factor, like.dtype, like.device)


def _gaussian_weights(size: int, factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """In double precision, since the weights of a large factor differ by little."""
    rows = -(-size // factor)
    centres = (torch.arange(rows, device=device, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(size, device=device, dtype=torch.float64) + 0.5
    offsets = (pixels - centres[:, None]) / factor
    weights = torch.exp(-2.0 * offsets**2) * (offsets.abs() < 1.5)
    return (weights / weights.sum(1, keepdim=True)).to(dtype)


# not as inference_mode makes tensors: those can't be part of training afterwards
_kept_weights = lru_cache(64)(torch.inference_mode(mode=False)(_gaussian_weights))


def _gaussian(image: Tensor, steps: tuple[int, ...]) -> Tensor:
    for axis, step in enumerate(steps, start=2):
        if step > 1:
            image = _gaussian_along(image, axis, step)
    return image


@fx.wrap
def _gaussian_along(image: Tensor, axis: int, factor: int) -> Tensor:
    """One axis downsampled."""
    size = image.shape[axis]
    if size * -(-size // factor) > _LARGEST_MATRIX:
        return _gaussian_rows(image.movedim(axis, -1), factor).movedim(-1, axis)
    matrix = gaussian_matrix(size, factor, image)
    if axis == image.dim() - 2:
        return matrix @ image
    if axis == image.dim() - 1:
        return image @ matrix.transpose(0, 1)
    return (image.movedim(axis, -1) @ matrix.transpose(0, 1)).movedim(-1, axis)


def _gaussian_rows(lines: Tensor, factor: int) -> Tensor:
    """The last axis downsampled, without a matrix."""
    size = lines.shape[-1]
    # of a long line the matrix is nearly all zeros: its rows are one window, cut at the border
    offsets = (torch.arange(3 * factor, device=lines.device, dtype=torch.float64) + 0.5) / factor
    window = torch.exp(-2.0 * (offsets - 1.5) ** 2)
    behind = (-(-size // factor) + 1) * factor - size
    sums = F.pad(torch.ones_like(window[:1]).expand(size), (factor, behind))
    totals = sums.unfold(-1, 3 * factor, factor) @ window
    read = F.pad(lines, (factor, behind)).unfold(-1, 3 * factor, factor)
    return (read @ window.to(lines.dtype)) / totals.to(lines.dtype)


def _antialiased(image: Tensor, steps: tuple[int, ...]) -> Tensor:
    size = [-(-side // step) for side, step in zip(image.shape[2:], steps, strict=True)]
    if len(size) == 2:
        return F.interpolate(image, size=size, mode="bilinear", antialias=True)
    # PyTorch antialiases pictures only; the filter is separable, so each axis is one of height 1
    for axis, side in enumerate(size, start=2):
        lines = image.movedim(axis, -1)
        rows = lines.flatten(1, -2).unsqueeze(2)
        rows = F.interpolate(rows, size=[1, side], mode="bilinear", antialias=True)
        image = rows.reshape(*lines.shape[:-1], side).movedim(-1, axis)
    return image


def _blur(image: Tensor, axis: int, sigma: float, radius: int) -> Tensor:
    channels = image.shape[1]
    taps = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float64)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(image.dtype).expand(channels, 1, -1)
    # reflection needs an image larger than the radius, so it is done by index
    image = image.index_select(axis, _reflected(image.shape[axis], radius, image.device))
    shape = [-1 if other == axis else 1 for other in range(2, image.dim())]
    convolve = DIMENSIONS[len(shape)].convolve
    return convolve(image, kernel.reshape(channels, 1, *shape), groups=channels)


def _reflected(size: int, radius: int, device: torch.device) -> Tensor:
    """Indices of an axis extended by the radius on both sides, mirrored at the border pixels."""
    period = max(2 * (size - 1), 1)
    index = torch.remainder(torch.arange(-radius, size + radius, device=device), period)
    return torch.minimum(index, period - index) if size > 1 else index
