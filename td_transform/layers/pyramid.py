"""The pyramid: the input image, blurred and downsampled to every level (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from td_transform.taps import POINT, Taps

PyramidKind = Literal["gaussian", "blur", "antialias", "decimate", "maxpool"]


class Pyramid(nn.Module):
    """The input image, blurred and downsampled to every level (paper, 3.1).

    Every level is made from the full image; a level of stride f has ceil(H / f) rows.

    Args:
        strides: input pixels per step of each level, in the order of the output.
        kind: `gaussian` has sigma f/2, support +-1.5 f, sample centres at (i + 1/2) f and weights
            renormalised at the border (TensorFlow's antialiased Gaussian resize); `blur` is a
            Gaussian of the given sigma, reflected at the border, then every f-th pixel;
            `antialias` is PyTorch's antialiased bilinear resize; `decimate` takes every f-th pixel;
            `maxpool` the maximum of f x f pixels.
        sigma: for `blur`: input pixels; by default f / 2.
        preprocess: what the bottom-up model did to the image before its first learned layer.
        skipped: strides of levels that nothing reads; they only have their level's size.

    Example:
        >>> pyramid = Pyramid((4, 2, 1))
        >>> [level.shape[-1] for level in pyramid(torch.rand(1, 3, 29, 29))]
        [8, 15, 29]
    """

    def __init__(
        self,
        strides: Sequence[int],
        *,
        kind: PyramidKind = "gaussian",
        sigma: float | None = None,
        preprocess: nn.Module | None = None,
        skipped: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.skipped = tuple(skipped)
        self.kind = kind
        self.sigma = sigma
        self.preprocess = preprocess

    def forward(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of one image (N, C, H, W), or of one full-size image per level, fine to coarse."""
        sources = _sources(images, self.strides, self.skipped, self.preprocess)
        return tuple(
            self.level(image, stride) for image, stride in zip(sources, self.strides, strict=True)
        )

    def level(self, image: Tensor, stride: int) -> Tensor:
        """One level: (N, C, ceil(H / stride), ceil(W / stride))."""
        if stride == 1:
            return image
        if stride in self.skipped:
            return _every(image, stride)
        if self.kind == "gaussian":
            rows = gaussian_matrix(image.shape[-2], stride, image)
            columns = gaussian_matrix(image.shape[-1], stride, image)
            return rows @ image @ columns.transpose(0, 1)
        if self.kind == "antialias":
            size = [-(-side // stride) for side in image.shape[-2:]]
            return F.interpolate(image, size=size, mode="bilinear", antialias=True)
        if self.kind == "maxpool":
            return F.max_pool2d(image, stride, ceil_mode=True)
        if self.kind == "blur":
            sigma = self.sigma if self.sigma is not None else stride / 2
            image = _blur(image, sigma, self.blur_radius(stride))
        return _every(image, stride)

    def taps(self, stride: int, size: int) -> Taps:
        """The pixels of an axis of that size that a position of a level reads."""
        if stride == 1:
            return POINT
        if stride in self.skipped:
            return Taps.window(1, stride)
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


class OwnPyramid(nn.Module):
    """A pyramid whose levels modules of the user's own make, each from the full image.

    Args:
        levels: one a level, in the order of the output; None for a level that nothing reads.
        strides: input pixels per step of each level.
        preprocess: what the bottom-up model did to the image before its first learned layer.
    """

    def __init__(
        self,
        levels: Sequence[nn.Module | None],
        strides: Sequence[int],
        preprocess: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.skipped = tuple(s for s, m in zip(strides, levels, strict=True) if m is None)
        self.levels = nn.ModuleDict(
            {str(s): m for s, m in zip(strides, levels, strict=True) if m is not None}
        )
        self.preprocess = preprocess

    def forward(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of one image (N, C, H, W), or of one full-size image per level, fine to coarse."""
        sources = _sources(images, self.strides, self.skipped, self.preprocess)
        return tuple(
            _every(image, stride) if stride in self.skipped else self.levels[str(stride)](image)
            for image, stride in zip(sources, self.strides, strict=True)
        )


def _sources(
    images: Tensor | Sequence[Tensor],
    strides: Sequence[int],
    skipped: Sequence[int],
    preprocess: nn.Module | None,
) -> tuple[Tensor, ...]:
    """The full image of every level, coarse to fine."""
    if isinstance(images, (tuple, list)):
        read = len(strides) - len(skipped)
        if len(images) != read:
            raise ValueError(
                f"pyramid: {len(images)} images; expected one tensor (N, C, H, W), or "
                f"{read}, one per level from fine to coarse"
            )
        given = iter(reversed(images))
        sources = tuple(images[0] if stride in skipped else next(given) for stride in strides)
    else:
        sources = (images,) * len(strides)
    return sources if preprocess is None else tuple(preprocess(image) for image in sources)


def _every(image: Tensor, stride: int) -> Tensor:
    """Every so many pixels: a view."""
    return image[..., ::stride, ::stride]


@fx.wrap
def gaussian_matrix(size: int, factor: int, like: Tensor) -> Tensor:
    """Weights (ceil(size / factor), size) of a Gaussian downsampling: sigma = factor / 2 pixels.

    In double precision, since the weights of a large factor differ by little.
    """
    rows = -(-size // factor)
    centres = (torch.arange(rows, device=like.device, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(size, device=like.device, dtype=torch.float64) + 0.5
    offsets = (pixels - centres[:, None]) / factor
    weights = torch.exp(-2.0 * offsets**2) * (offsets.abs() < 1.5)
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)


def _blur(image: Tensor, sigma: float, radius: int) -> Tensor:
    channels = image.shape[1]
    taps = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float64)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(image.dtype).expand(channels, 1, -1)
    for axis in (2, 3):
        # reflection needs an image larger than the radius, so it is done by index
        image = image.index_select(axis, _reflected(image.shape[axis], radius, image.device))
        shape = (channels, 1, -1, 1) if axis == 2 else (channels, 1, 1, -1)
        image = F.conv2d(image, kernel.reshape(shape), groups=channels)
    return image


def _reflected(size: int, radius: int, device: torch.device) -> Tensor:
    """Indices of an axis extended by the radius on both sides, mirrored at the border pixels."""
    period = max(2 * (size - 1), 1)
    index = torch.remainder(torch.arange(-radius, size + radius, device=device), period)
    return torch.minimum(index, period - index) if size > 1 else index
