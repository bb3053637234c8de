"""The authors' ResNet18 for 128 x 128 pixels of Imagenette."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.subjects.models import PreActivationBlock


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
        self.stage1 = _stage(widths[0], widths[0], stride=1)
        self.stage2 = _stage(widths[0], widths[1], stride=2)
        self.stage3 = _stage(widths[1], widths[2], stride=2)
        self.stage4 = _stage(widths[2], widths[3], stride=2)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = self.stage2(self.stage1(self.maxpool(self.stem(images))))
        x = self.stage4(self.stage3(x))
        return self.fc(self.pool(F.relu(self.bn(x))).flatten(1))  # type: ignore[no-any-return]


def _stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        PreActivationBlock(width_in, width, stride), PreActivationBlock(width, width, 1)
    )


def resnet18_imagenette(*, in_channels: int = 3, classes: int = 10) -> ResNet18Imagenette:
    """ResNet18 with half of the usual widths, made for images of 3 x 128 x 128 pixels.

    Example:
        >>> sum(p.numel() for p in resnet18_imagenette().parameters())
        2799114
    """
    return ResNet18Imagenette(in_channels=in_channels, classes=classes)
