"""The paper's bottom-up networks, for images (N, C, H, W) and ten classes.

Every network has a batch normalisation before each ReLU and a bias in each convolution.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class UnitSize(NamedTuple):
    """A convolution's kernel side, in steps of its map, and its output channels."""

    kernel: int
    width: int


Stages = Sequence[Sequence[UnitSize]]


class Unit(nn.Sequential):
    """conv-norm-act at the size of its input; `kernel` is the side in steps of the map."""

    def __init__(self, width_in: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, padding=kernel // 2)
        # The authors trained in Keras: its epsilon, and its momentum of 0.99 as PyTorch counts it.
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
        self.act = nn.ReLU()


class PlainNetwork(nn.Module):
    """Stages of units with a maximum pooling between them, then a classifier unit that is averaged.

    The logits come after the classifier unit's normalisation and ReLU.

    Args:
        stages: the units of every stage, from the finest to the coarsest.
        in_channels: channels of the images.
        classes: number of logits.
        pool_kernel: side of the pooling window, in steps of its map; its stride is 2 steps.
        dropout: share of the features that is dropped after each pooling.
    """

    def __init__(
        self, stages: Stages, *, in_channels: int, classes: int, pool_kernel: int, dropout: float
    ) -> None:
        super().__init__()
        width = in_channels
        self.features = nn.Sequential()
        for number, sizes in enumerate(stages, start=1):
            if number > 1:
                pool = nn.MaxPool2d(pool_kernel, stride=2, padding=(pool_kernel - 1) // 2)
                self.features.add_module(f"pool{number - 1}", pool)
                if dropout:
                    self.features.add_module(f"dropout{number - 1}", nn.Dropout(dropout))
            stage = nn.Sequential()
            for kernel, width_out in sizes:
                stage.append(Unit(width, width_out, kernel))
                width = width_out
            self.features.add_module(f"stage{number}", stage)
        self.classifier = Unit(width, classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        return self.pool(self.classifier(self.features(images))).flatten(1)  # type: ignore[no-any-return]


class LeNetFC(PlainNetwork):
    """LeNet with convolutions throughout."""


class NIN(PlainNetwork):
    """Network in Network."""


class NINLight(PlainNetwork):
    """Network in Network with fewer channels."""


def lenet_fc(*, in_channels: int = 1, classes: int = 10) -> LeNetFC:
    """LeNetFC, made for images of 1 x 28 x 28 pixels.

    Example:
        >>> sum(p.numel() for p in lenet_fc().parameters())
        7670
    """
    stages = [[UnitSize(5, 6)], [UnitSize(5, 16)], [UnitSize(3, 32)]]
    return LeNetFC(stages, in_channels=in_channels, classes=classes, pool_kernel=2, dropout=0.0)


def nin(*, light: bool = False, in_channels: int | None = None, classes: int = 10) -> PlainNetwork:
    """NIN, made for images of 3 x 32 x 32 pixels, or NIN-light, for 1 x 28 x 28.

    Example:
        >>> sum(p.numel() for p in nin().parameters())
        969822
    """
    first, others = ((48, 40, 24), 48) if light else ((192, 160, 96), 192)
    stages = [
        [UnitSize(kernel, width) for kernel, width in zip((5, 1, 1), first, strict=True)],
        [UnitSize(kernel, others) for kernel in (5, 1, 1)],
        [UnitSize(kernel, others) for kernel in (3, 1)],
    ]
    network = NINLight if light else NIN
    channels = in_channels or (1 if light else 3)
    return network(stages, in_channels=channels, classes=classes, pool_kernel=3, dropout=0.5)


def nin_light(*, in_channels: int = 1, classes: int = 10) -> PlainNetwork:
    """NIN-light, made for images of 1 x 28 x 28 pixels.

    Example:
        >>> sum(p.numel() for p in nin_light().parameters())
        62094
    """
    return nin(light=True, in_channels=in_channels, classes=classes)


class PreActivationBlock(nn.Module):
    """norm-act-conv twice, added to its input.

    Where the resolution falls, the shortcut is a 1x1 convolution of the normalised and activated
    input.

    Args:
        width_in, width: channels before and after.
        stride: steps of the input map per step of the output map.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.projection = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """A map (N, width_in, H, W) to (N, width, H / stride, W / stride)."""
        ready = F.relu(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(ready)
        return self.conv2(F.relu(self.bn2(self.conv1(ready)))) + shortcut  # type: ignore[no-any-return]


class ResNet32(nn.Module):
    """Pre-activation ResNet with three stages.

    Args:
        in_channels: channels of the images.
        classes: number of logits.
        widths: channels of the three stages.
        blocks: blocks per stage.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        classes: int = 10,
        widths: tuple[int, int, int] = (16, 32, 64),
        blocks: int = 5,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.stage1 = _stage(widths[0], widths[0], blocks, stride=1)
        self.stage2 = _stage(widths[0], widths[1], blocks, stride=2)
        self.stage3 = _stage(widths[1], widths[2], blocks, stride=2)
        self.bn = nn.BatchNorm2d(widths[2])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.fc(self.pool(F.relu(self.bn(x))).flatten(1))  # type: ignore[no-any-return]


class ResNet18Imagenette(nn.Module):
    """Pre-activation ResNet with a small stem, a maximum pooling and four stages of two blocks.

    Args:
        in_channels: channels of the images.
        classes: number of logits.
        widths: channels of the stages; the stem has those of the first.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        classes: int = 10,
        widths: tuple[int, int, int, int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage1 = _stage(widths[0], widths[0], 2, stride=1)
        self.stage2 = _stage(widths[0], widths[1], 2, stride=2)
        self.stage3 = _stage(widths[1], widths[2], 2, stride=2)
        self.stage4 = _stage(widths[2], widths[3], 2, stride=2)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = self.stage2(self.stage1(self.maxpool(self.stem(images))))
        x = self.stage4(self.stage3(x))
        return self.fc(self.pool(F.relu(self.bn(x))).flatten(1))  # type: ignore[no-any-return]


def _stage(width_in: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    widths = [width_in, *[width] * blocks]
    pairs = enumerate(itertools.pairwise(widths))
    return nn.Sequential(
        *[PreActivationBlock(*pair, stride=1 if i else stride) for i, pair in pairs]
    )


def resnet32(*, in_channels: int = 3, classes: int = 10) -> ResNet32:
    """ResNet32, made for images of 3 x 32 x 32 pixels.

    Example:
        >>> sum(p.numel() for p in resnet32().parameters())
        467946
    """
    return ResNet32(in_channels=in_channels, classes=classes)


def resnet18_imagenette(*, in_channels: int = 3, classes: int = 10) -> ResNet18Imagenette:
    """ResNet18 with half of the usual widths, made for images of 3 x 128 x 128 pixels.

    Example:
        >>> sum(p.numel() for p in resnet18_imagenette().parameters())
        2799114
    """
    return ResNet18Imagenette(in_channels=in_channels, classes=classes)
