"""One tiny network per topology: (N, 3, H, W) -> (N, 7) with two or three stages."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cna(
    width_in: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """conv-norm-act."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


class Classifier(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 7))


def chain() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), nn.MaxPool2d(2), cna(8, 12, 5), cna(12, 12, 1), nn.AvgPool2d(2), cna(12, 16),
        Classifier(16),
    )  # fmt: skip


def strided_chain() -> nn.Module:
    """All-convolutional: every stage is entered by a strided convolution."""
    return nn.Sequential(
        cna(3, 8), cna(8, 12, 3, 2), cna(12, 12), cna(12, 16, 4, 2), Classifier(16)
    )


class Residual(nn.Module):
    """Post-activation, basic or bottleneck, grouped, with squeeze-excite."""

    def __init__(
        self, width_in: int, width: int, stride: int = 1, *, bottleneck: bool = False,
        groups: int = 1, gate: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        inner = width // 2 if bottleneck else width
        if bottleneck:
            body = [cna(width_in, inner, 1), cna(inner, inner, 3, stride, groups)]
            body.append(nn.Sequential(nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)))
        else:
            body = [cna(width_in, inner, 3, stride, groups)]
            body.append(nn.Sequential(nn.Conv2d(inner, width, 3, padding=1), nn.BatchNorm2d(width)))
        self.body = nn.Sequential(*body)
        self.gate = SqueezeExcite(width) if gate else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.gate(self.body(x)) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(F.relu(self.down(x.mean((2, 3))))).sigmoid()
        return x * gate[:, :, None, None]


def residual(**options: bool | int) -> nn.Module:
    return nn.Sequential(
        cna(3, 8), Residual(8, 8, **options), Residual(8, 16, 2, **options),
        Residual(16, 16, **options), Residual(16, 24, 2, **options), Classifier(24),
    )  # fmt: skip


def deep_stem() -> nn.Module:
    """The stem downsamples by 4 (ResNet)."""
    return nn.Sequential(
        cna(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), Residual(8, 8), Residual(8, 8), Residual(8, 16, 2),
        Residual(16, 16), Classifier(16),
    )  # fmt: skip


class PreActivation(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width_in), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        projects = stride > 1 or width_in != width
        self.projection = nn.Conv2d(width_in, width, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        ready = F.relu(self.norm1(x))
        shortcut = x if self.projection is None else self.projection(ready)
        return self.conv2(F.relu(self.norm2(self.conv1(ready)))) + shortcut


def pre_activation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), PreActivation(8, 8), PreActivation(8, 16, 2),
        PreActivation(16, 16), PreActivation(16, 16), nn.BatchNorm2d(16), nn.ReLU(), Classifier(16),
    )  # fmt: skip


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; a shortcut where shapes agree."""

    def __init__(self, width_in: int, width: int, stride: int = 1, expansion: int = 3) -> None:
        super().__init__()
        hidden = width_in * expansion
        layers: list[nn.Module] = [cna(width_in, hidden, 1)] if expansion > 1 else []
        layers += [
            cna(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width),
        ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def depthwise() -> nn.Module:
    return nn.Sequential(
        cna(3, 8, 3, 2), InvertedBottleneck(8, 6, 1, 1), InvertedBottleneck(6, 10, 2),
        InvertedBottleneck(10, 10), InvertedBottleneck(10, 14, 2), cna(14, 20, 1), Classifier(20),
    )  # fmt: skip


class Dense(nn.Module):
    """Every layer reads all maps before it."""

    def __init__(self, width: int, growth: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width + i * growth) for i in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(width + i * growth, growth, 3, padding=1) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return x


def dense() -> nn.Module:
    def transition(width: int) -> nn.Module:
        conv = nn.Conv2d(width, width // 2, 1)
        return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv, nn.AvgPool2d(2))

    return nn.Sequential(
        cna(3, 8), Dense(8), transition(20), Dense(10), transition(22), Dense(11),
        nn.BatchNorm2d(23), nn.ReLU(), Classifier(23),
    )  # fmt: skip


class Inception(nn.Module):
    """Branches of several kernels; at stride 2 one branch only pools."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.small = nn.Sequential(cna(width_in, 4, 1), cna(4, width // 2, 3, stride))
        self.large = nn.Sequential(cna(width_in, 4, 1), cna(4, width - width // 2, 5, stride))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.small(x), self.large(x)]
        if self.stride > 1:
            branches.append(F.max_pool2d(x, 3, self.stride, 1))
        return torch.cat(branches, dim=1)


def inception() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), Inception(8, 12), nn.MaxPool2d(3, 2, 1), Inception(12, 16), Inception(16, 12, 2),
        Inception(28, 20), Classifier(20),
    )  # fmt: skip


def dilated() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=2, dilation=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(12, 16, (1, 3), dilation=(1, 2)), nn.ReLU(), Classifier(16),
    )  # fmt: skip


class Blur(nn.Module):
    """A fixed depthwise filter at stride 2 (anti-aliased downsampling)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filter", torch.outer(taps, taps).expand(width, 1, 3, 3) / 16)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filter, stride=2, groups=self.width)


def anti_aliased() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), Blur(8), Residual(8, 8), Residual(8, 8), cna(8, 16), Blur(16), Residual(16, 16),
        Classifier(16),
    )  # fmt: skip


def unshuffled() -> nn.Module:
    """A pixel-unshuffle stem and a pixel-unshuffle between the stages."""
    return nn.Sequential(
        nn.PixelUnshuffle(2), cna(12, 8), Residual(8, 8), nn.PixelUnshuffle(2), cna(32, 16, 1),
        Residual(16, 16), Classifier(16),
    )  # fmt: skip


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm and linear layers channels-last, a LayerScale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x).permute(0, 2, 3, 1))
        h = self.narrow(F.gelu(self.wide(h))).permute(0, 3, 1, 2)
        return x + self.scale * h


def patchify() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.GroupNorm(1, 8), ConvNeXtBlock(8), ConvNeXtBlock(8),
        nn.GroupNorm(1, 8), nn.Conv2d(8, 16, 2, 2), ConvNeXtBlock(16), Classifier(16),
    )  # fmt: skip


class ChannelShuffle(nn.Module):
    """ShuffleNet's unit: half the channels pass, the groups are mixed by reshape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(cna(width // 2, width // 2, 1), cna(width // 2, width // 2))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        out = torch.cat((left, self.branch(right)), 1)
        n, c, h, w = out.size()
        return out.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffled() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), ChannelShuffle(8), cna(8, 12, 3, 2), ChannelShuffle(12), ChannelShuffle(12),
        Classifier(12),
    )  # fmt: skip


class SharedBlock(nn.Module):
    """One convolution that is called three times in its stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.down = cna(3, 8), cna(8, 8), cna(8, 16, 3, 2)
        self.last, self.classifier = cna(16, 16), Classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.shared(self.shared(self.shared(x)))
        return self.classifier(self.last(self.last(self.down(x))))


class Functional(nn.Module):
    """Everything but the learned layers is called as a function; the head flattens a map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 24), nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        x = F.dropout(torch.flatten(x, 1), 0.1, self.training)
        return self.fc2(torch.tanh(self.fc1(x)))


class Normalised(nn.Module):
    """The image is normalised inside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
        self.net = chain()

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / 0.25)


class Excursion(nn.Module):
    """A block that leaves its resolution and comes back (GhostNetV2's attention)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.gate = cna(width, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(F.avg_pool2d(x, 2, 2)))
        return self.conv(x) * F.interpolate(gate, size=x.shape[-2:], mode="nearest")


def excursion() -> nn.Module:
    return nn.Sequential(
        cna(3, 8), Excursion(8), cna(8, 16, 3, 2), Excursion(16), Excursion(16), Classifier(16)
    )


TOPOLOGIES: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "strided chain": strided_chain,
    "residual": residual,
    "bottleneck": lambda: residual(bottleneck=True),
    "grouped": lambda: residual(bottleneck=True, groups=2),
    "squeeze-excite": lambda: residual(gate=True),
    "deep stem": deep_stem,
    "pre-activation": pre_activation,
    "depthwise": depthwise,
    "dense": dense,
    "inception": inception,
    "dilated": dilated,
    "anti-aliased": anti_aliased,
    "pixel-unshuffle": unshuffled,
    "patchify": patchify,
    "channel shuffle": shuffled,
    "shared": SharedBlock,
    "functional": Functional,
    "normalised": Normalised,
    "excursion": excursion,
}
