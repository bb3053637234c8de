"""LeNetFC-TD and ResNet32-TD as one writes them by hand: what a compiled network has to match.

They share no code with td_transform. The parameters stand in the order of the compiled networks'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gaussian_matrix(size: int, factor: int) -> Tensor:
    """Weights (ceil(size / factor), size): sigma = factor / 2, support +-1.5 factor, renormalised."""
    centres = (torch.arange(-(-size // factor), dtype=torch.float64) + 0.5) * factor
    offsets = (torch.arange(size, dtype=torch.float64) + 0.5 - centres[:, None]) / factor
    weights = torch.exp(-2 * offsets**2).masked_fill(offsets.abs() >= 1.5, 0)
    return (weights / weights.sum(1, keepdim=True)).float()


class Levels(nn.Module):
    """The image (N, C, H, W) at strides 4, 2 and 1; the matrices are made once."""

    by_2: Tensor
    by_4: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("by_2", gaussian_matrix(side, 2), persistent=False)
        self.register_buffer("by_4", gaussian_matrix(side, 4), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.by_4 @ x @ self.by_4.T, self.by_2 @ x @ self.by_2.T, x


def unit(width_in: int, width: int, kernel: int) -> nn.Sequential:
    """conv-norm-act, as in LeNet and NIN."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, padding=kernel // 2),
        nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
        nn.ReLU(),
    )


class LeNetLevel(nn.Module):
    """A level of LeNetFC-TD after the first: features (N, C, h, w) and image to (N, C', 2h, 2w)."""

    def __init__(self, channels: int, width_in: int, width: int) -> None:
        super().__init__()
        self.lift = unit(channels, width, 5)
        self.adapter = unit(width_in, width, 1)
        self.merge = unit(2 * width, width, 3)
        self.stage = unit(width, width, 5)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        lift = self.lift(image)
        x = F.interpolate(self.adapter(x), scale_factor=2.0)
        return self.stage(self.merge(torch.cat([x + lift, lift], 1)))  # type: ignore[no-any-return]


class LeNetFCTD(nn.Module):
    """Images (N, 1, 28, 28) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Levels(28)
        self.lift = unit(1, 32, 3)
        self.level1 = LeNetLevel(1, 32, 16)
        self.level2 = LeNetLevel(1, 16, 6)
        self.classifier = unit(6, 10, 1)

    def forward(self, images: Tensor) -> Tensor:
        quarter, half, full = self.pyramid(images)
        x = self.level2(self.level1(self.lift(quarter), half), full)
        return self.classifier(x).mean((2, 3))  # type: ignore[no-any-return]


class Block(nn.Module):
    """norm-act-conv twice, added to the input; a projection of the activated input on request."""

    def __init__(self, width_in: int, width: int, *, projects: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.projection = nn.Conv2d(width_in, width, 1) if projects else None
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """A map (N, C, h, w) to (N, C', h, w), twice as large where there is a projection."""
        ready = F.relu(self.bn1(x))
        if self.projection is not None:
            x = F.interpolate(self.projection(ready), scale_factor=2.0)
            ready = F.interpolate(ready, scale_factor=2.0)
        return self.conv2(F.relu(self.bn2(self.conv1(ready)))) + x  # type: ignore[no-any-return]


class ResNetLevel(nn.Module):
    """A level of ResNet32-TD after the first."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, width, 3, padding=1)
        self.first = Block(width_in, width, projects=True)
        self.rest = nn.Sequential(*(Block(width, width) for _ in range(4)))
        self.norm = nn.BatchNorm2d(2 * width)
        self.merge = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        lift = self.lift(image)
        joined = torch.cat([self.first(x) + lift, lift], 1)
        return self.rest(self.merge(F.relu(self.norm(joined))))  # type: ignore[no-any-return]


class ResNet32TD(nn.Module):
    """Images (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Levels(32)
        self.lift = nn.Conv2d(3, 64, 3, padding=1)
        self.first = nn.Sequential(*(Block(64, 64) for _ in range(5)))
        self.level1 = ResNetLevel(64, 32)
        self.level2 = ResNetLevel(32, 16)
        self.bn = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        quarter, half, full = self.pyramid(images)
        x = self.level2(self.level1(self.first(self.lift(quarter)), half), full)
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))  # type: ignore[no-any-return]
