"""Common corruptions at five severities (Hendrycks & Dietterich, arXiv 1903.12261), for small images.

The constants are those of CIFAR-10-C (github.com/hendrycks/robustness,
ImageNet-C/create_c/make_cifar_c.py), whose images have 32 pixels; larger images are changed less
than ImageNet-C would. Weather (snow, frost, fog, spatter) is left out: it needs photographs, or
says little about grey digits; so is saturation, which grey images don't have. The packages that
hold these corruptions (imagecorruptions 1.1.2, imagenet-c) don't run with current NumPy,
scikit-image and setuptools, and refuse images below 32 pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

from benchmarks.errors import BenchmarkError

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Args:
        apply: from floats (N, C, H, W) in [0, 1], a constant and a generator to the corrupted ones.
        constants: for severity 1 to 5.
    """

    apply: Callable[[Tensor, Any, Generator], Tensor]
    constants: tuple[Any, Any, Any, Any, Any]


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Corrupted images (N, C, H, W), float32 in [0, 1], rounded to multiples of 1/255.

    Args:
        images: (N, C, H, W), uint8, or float in [0, 1]; C is 1 or 3.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is drawn; the same images get the same corruption.

    Raises:
        BenchmarkError: there is no such corruption or severity, or values lie outside [0, 1].

    Example:
        >>> corrupt(torch.zeros(1, 1, 28, 28), "brightness", 5).unique()
        tensor([0.2980])
    """
    if name not in CORRUPTIONS:
        raise BenchmarkError(
            "corruption", seen=repr(name), expected=f"one of {', '.join(CORRUPTIONS)}",
            remedy="choose one of these",
        )  # fmt: skip
    if severity not in SEVERITIES:
        raise BenchmarkError(
            "severity", seen=repr(severity), expected="1, 2, 3, 4 or 5",
            remedy="choose one of these",
        )  # fmt: skip
    clean = images.cpu()
    clean = clean.float() / 255 if clean.dtype == torch.uint8 else clean.float()
    if clean.min() < 0 or clean.max() > 1:
        raise BenchmarkError(
            "images", seen=f"values from {clean.min():g} to {clean.max():g}",
            expected="values in [0, 1], or bytes", remedy="divide bytes by 255",
        )  # fmt: skip
    chosen = CORRUPTIONS[name]
    generator = Generator().manual_seed(seed)
    changed = chosen.apply(clean, chosen.constants[severity - 1], generator)
    return ((changed.clamp(0, 1) * 255).round() / 255).to(images.device)


# Noise


def _gaussian_noise(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return images + deviation * torch.randn(images.shape, generator=generator)


def _shot_noise(images: Tensor, photons: float, generator: Generator) -> Tensor:
    return torch.poisson(images * photons, generator=generator) / photons


def _impulse_noise(images: Tensor, amount: float, generator: Generator) -> Tensor:
    drawn = torch.rand(images.shape, generator=generator)
    noisy = torch.where(drawn < amount / 2, 0.0, images)
    return torch.where(drawn > 1 - amount / 2, 1.0, noisy)


def _speckle_noise(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return images + images * deviation * torch.randn(images.shape, generator=generator)


# Blur


def _gaussian_blur(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    blurred = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(blurred)


def _defocus_blur(images: Tensor, constant: tuple[float, float], generator: Generator) -> Tensor:
    radius, alias = constant
    axis = torch.arange(-8, 9)
    disk = ((axis**2 + axis[:, None] ** 2) <= radius**2).float()
    # OpenCV's window of 3 x 3
    soft = gaussian_filter((disk / disk.sum()).numpy(), alias, radius=1, mode="mirror")
    kernel = torch.from_numpy(soft).expand(images.shape[1], 1, -1, -1)
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    return F.conv2d(padded, kernel, groups=images.shape[1])


def _glass_blur(images: Tensor, constant: tuple[float, int, int], generator: Generator) -> Tensor:
    sigma, reach, rounds = constant
    glass = _gaussian_blur(images, sigma, generator)
    places = _places(images).long()
    # The published images copy a neighbour's value, though their code reads as if it swapped both.
    inner = (places >= reach + 1).all(2, keepdim=True)
    for _ in range(rounds):
        shape = (len(images), *places.shape)
        moved = places + inner * torch.randint(-reach, reach, shape, generator=generator)
        sources = (moved[..., 1] * images.shape[3] + moved[..., 0]).flatten(1)
        flat = glass.flatten(2)
        glass = flat.gather(2, sources[:, None].expand_as(flat)).view(images.shape)
    return _gaussian_blur(glass, sigma, generator)


def _motion_blur(images: Tensor, constant: tuple[int, float], generator: Generator) -> Tensor:
    radius, sigma = constant
    angles = (torch.rand(len(images), generator=generator) - 0.5) * math.pi / 2
    # ImageMagick's kernel: half a Gaussian, trailing from the pixel
    weights = torch.exp(-(torch.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    blurred = torch.zeros_like(images)
    for distance, weight in enumerate((weights / weights.sum()).tolist()):
        offsets = distance * torch.stack([angles.cos(), angles.sin()], 1)
        blurred += weight * _sampled(images, _places(images) + offsets[:, None, None])
    return blurred


def _zoom_blur(images: Tensor, farthest: float, generator: Generator) -> Tensor:
    zooms = np.arange(1, farthest, 0.01).tolist()
    centre = torch.tensor([images.shape[3] - 1, images.shape[2] - 1]) / 2
    places = _places(images)
    layers = [_sampled(images, centre + (places - centre) / zoom) for zoom in zooms]
    return (images + sum(layers)) / (len(zooms) + 1)


# Digital


def _brightness(images: Tensor, added: float, generator: Generator) -> Tensor:
    # value in HSV is the largest channel; hue and saturation stay
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-6), brighter)


def _contrast(images: Tensor, factor: float, generator: Generator) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def _elastic_transform(
    images: Tensor, constant: tuple[float, float, float], generator: Generator
) -> Tensor:
    side = min(images.shape[2:])
    strength, smoothness, affine = (share * side for share in constant)
    count, places = len(images), _places(images)

    # three points of the image move at random; the affine map that moves them so moves all
    third, centre = side // 3, side // 2
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * third + centre
    moves = (torch.rand(count, 3, 2, generator=generator) * 2 - 1) * affine
    moved = torch.cat([corners + moves, torch.ones(count, 3, 1)], 2)
    back = torch.linalg.solve(moved, corners.expand(count, 3, 2))
    ones = torch.ones(*places.shape[:2], 1)
    images = _sampled(images, (torch.cat([places, ones], 2).flatten(0, 1) @ back).view(
        count, *places.shape
    ))  # fmt: skip

    drawn = torch.rand(count, *places.shape, generator=generator) * 2 - 1
    smooth = gaussian_filter(drawn.numpy(), (0, smoothness, smoothness, 0), truncate=3)
    return _sampled(images, places + strength * torch.from_numpy(smooth))


def _pixelate(images: Tensor, share: float, generator: Generator) -> Tensor:
    def coarser(image: Image.Image) -> Image.Image:
        size = image.size
        small = image.resize((int(size[0] * share), int(size[1] * share)), Image.Resampling.BOX)
        return small.resize(size, Image.Resampling.BOX)

    return _through_pillow(images, coarser)


def _jpeg_compression(images: Tensor, quality: int, generator: Generator) -> Tensor:
    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _through_pillow(images, compressed)


def _through_pillow(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    grey = images.shape[1] == 1
    changed = []
    for image in (images * 255).round().byte().permute(0, 2, 3, 1).numpy():
        array = np.asarray(change(Image.fromarray(image[..., 0] if grey else image)))
        changed.append(torch.tensor(array).view(image.shape))
    return torch.stack(changed).permute(0, 3, 1, 2).float() / 255


def _places(images: Tensor) -> Tensor:
    """(H, W, 2): the column and the row of each pixel."""
    height, width = images.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height).float(), torch.arange(width).float(), indexing="ij"
    )
    return torch.stack([columns, rows], 2)


def _sampled(images: Tensor, places: Tensor) -> Tensor:
    """Bilinear values at places (H, W, 2) or (N, H, W, 2) in pixels; reflected at the border."""
    last = torch.tensor([images.shape[3] - 1, images.shape[2] - 1])
    grid = (places * 2 / last - 1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": Corruption(_speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Corruption(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "defocus_blur": Corruption(
        _defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    "glass_blur": Corruption(
        _glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    ),
    "motion_blur": Corruption(_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Corruption(_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "brightness": Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(_jpeg_compression, (80, 65, 58, 50, 40)),
}
