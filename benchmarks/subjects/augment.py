"""Changes to training images, whole batches at a time, on the device that holds them.

Random numbers are drawn on the CPU, so that they are the same whatever the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to a batch of training images; by default nothing.

    Args:
        shift: along both axes, up to this share of the side, with the border's pixels repeated.
        flip: left to right, for half of the images.
        random_crop: cut at a random place where images are larger than the network's input;
            without it they are cut at the centre.
        colour_jitter: standard deviation of the shares of the colours' principal components that
            are added (Krizhevsky et al., 2012); 0 for none.
    """

    shift: float = 0.0
    flip: bool = False
    random_crop: bool = False
    colour_jitter: float = 0.0


def augment(
    images: Tensor,
    augmentation: Augmentation,
    *,
    side: int,
    components: Tensor | None = None,
    generator: Generator,
) -> Tensor:
    """Change a batch, each image in its own way.

    Args:
        images: (N, C, H, W) in [0, 1].
        augmentation: what to do.
        side: rows and columns of the result.
        components: (C, C) from `colour_components`, where colours are changed.
        generator: on the CPU.

    Returns:
        (N, C, side, side); colours may leave [0, 1].

    Example:
        >>> images = torch.rand(8, 3, 36, 36)
        >>> change = Augmentation(flip=True, random_crop=True)
        >>> augment(images, change, side=32, generator=Generator()).shape
        torch.Size([8, 3, 32, 32])
    """
    if images.shape[-1] != side or images.shape[-2] != side:
        images = (
            random_crop(images, side, generator)
            if augmentation.random_crop
            else centre_crop(images, side)
        )
    if augmentation.flip:
        images = random_flip(images, generator)
    if augmentation.shift:
        images = random_shift(images, augmentation.shift, generator)
    if augmentation.colour_jitter and components is not None:
        images = jitter_colours(images, components, augmentation.colour_jitter, generator)
    return images


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Half of the images (N, C, H, W), left to right."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(-1), images)


def random_shift(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Images (N, C, H, W) moved by up to a share of their sides, the border's pixels repeated.

    Shifts are not whole pixels (Keras' `width_shift_range` isn't either): pixels are interpolated.
    """
    count = len(images)
    # the sampling grid counts a side as 2
    offsets = (torch.rand(count, 2, generator=generator) * 2 - 1) * share * 2
    affine = torch.eye(2, 3).repeat(count, 1, 1)
    affine[:, :, 2] = offsets
    grid = F.affine_grid(affine.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_crop(images: Tensor, side: int, generator: Generator) -> Tensor:
    """A square of `side` pixels from each image (N, C, H, W), at its own random place."""
    count, _, height, width = images.shape
    top = torch.randint(height - side + 1, (count, 1), generator=generator)
    left = torch.randint(width - side + 1, (count, 1), generator=generator)
    steps = torch.arange(side)
    rows = (top + steps).to(images.device)[:, None, :, None]
    columns = (left + steps).to(images.device)[:, None, None, :]
    number = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[number, channel, rows, columns]


def centre_crop(images: Tensor, side: int) -> Tensor:
    """The square of `side` pixels in the middle of each image (N, C, H, W)."""
    top, left = (images.shape[-2] - side) // 2, (images.shape[-1] - side) // 2
    return images[..., top : top + side, left : left + side]


def jitter_colours(
    images: Tensor, components: Tensor, spread: float, generator: Generator
) -> Tensor:
    """Add to each image (N, C, H, W) a random share of every principal component of the colours."""
    shares = torch.randn(len(images), components.shape[1], generator=generator) * spread
    change = shares.to(components) @ components.T
    return images + change.to(images)[:, :, None, None]


def colour_components(images: Tensor) -> Tensor:
    """Principal components (C, C) of the colours of images (N, C, H, W), uint8 or in [0, 1].

    Column i is the i-th eigenvector of their covariance times its eigenvalue, as Krizhevsky et al.
    (2012) add them.
    """
    channels = images.shape[1]
    total = torch.zeros(channels, dtype=torch.float64, device=images.device)
    squares = torch.zeros(channels, channels, dtype=torch.float64, device=images.device)
    for part in images.split(512):
        values = part.transpose(0, 1).flatten(1).double()
        if not images.is_floating_point():
            values = values / 255
        total += values.sum(1)
        squares += values @ values.T
    count = images.numel() / channels
    mean = total / count
    covariance = (squares / count - mean[:, None] * mean).cpu()
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    components: Tensor = eigenvectors * eigenvalues
    return components.float().to(images.device)
