"""The paper's four bottom-up networks, each as users write them: Sequential, modules, functional."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENET = ([[(6, 5)], [(16, 5)], [(32, 3)]], 1, nn.MaxPool2d, (2, 2, 0), 0.0)
LIGHT = [[(48, 5), (40, 1), (24, 1)], [(48, 5), (48, 1), (48, 1)], [(48, 3), (48, 1)]]
FULL = [[(192, 5), (160, 1), (96, 1)], [(192, 5), (192, 1), (192, 1)], [(192, 3), (192, 1)]]
NIN_LIGHT = (LIGHT, 1, nn.MaxPool2d, (3, 2, 1), 0.5)
NIN = (FULL, 3, nn.MaxPool2d, (3, 2, 1), 0.5)
Chain = tuple[list[list[tuple[int, int]]], int, type[nn.MaxPool2d], tuple[int, int, int], float]


def unit_layers(width_in: int, width: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(width_in, width, kernel, padding=kernel // 2),
        nn.BatchNorm2d(width, eps=1e-3),
        nn.ReLU(),
    ]


def chain_sequential(chain: Chain) -> nn.Module:
    """One flat Sequential."""
    stages, width, pool, window, dropout = chain
    layers: list[nn.Module] = []
    for i, stage in enumerate(stages):
        if i:
            layers.append(pool(*window))
            layers += [nn.Dropout(dropout)] if dropout else []
        for out, kernel in stage:
            layers += unit_layers(width, out, kernel)
            width = out
    layers += [*unit_layers(width, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


class Unit(nn.Module):
    def __init__(self, width_in: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = unit_layers(width_in, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class StageWithPool(nn.Module):
    """Units with the pooling at the end, as many write a stage."""

    def __init__(self, units: list[Unit], pool: nn.Module | None, dropout: float) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.pool = pool
        self.dropout = nn.Dropout(dropout) if dropout and pool is not None else None

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = unit(x)
        if self.pool is not None:
            x = self.pool(x)
        return x if self.dropout is None else self.dropout(x)


class ChainModules(nn.Module):
    """A stage class, a unit class, a root with a functional global pooling."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        stages, width, pool, window, dropout = chain
        built = []
        for i, stage in enumerate(stages):
            units = []
            for out, kernel in stage:
                units.append(Unit(width, out, kernel))
                width = out
            built.append(StageWithPool(units, pool(*window) if i < 2 else None, dropout))
        self.features = nn.Sequential(*built)
        self.classifier = Unit(width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).mean(dim=(2, 3))


class ChainFunctional(nn.Module):
    """Only convolutions and norms are modules; the rest is F.*."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        stages, width, _, self.window, self.dropout = chain
        self.lengths = [len(stage) for stage in stages]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for out, kernel in [unit for stage in stages for unit in stage] + [(10, 1)]:
            self.convs.append(nn.Conv2d(width, out, kernel, padding=kernel // 2))
            self.norms.append(nn.BatchNorm2d(out, eps=1e-3))
            width = out

    def forward(self, x: Tensor) -> Tensor:
        i = 0
        for stage, length in enumerate(self.lengths):
            if stage:
                kernel, stride, padding = self.window
                x = F.max_pool2d(x, kernel, stride, padding)
                if self.dropout:
                    x = F.dropout(x, self.dropout, training=self.training)
            for _ in range(length):
                x = F.relu(self.norms[i](self.convs[i](x)))
                i += 1
        x = torch.relu(self.norms[i](self.convs[i](x)))
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)


class PreBlock(nn.Module):
    """BN-ReLU-conv twice; a 1x1 projection of the normalised-activated input."""

    def __init__(self, width_in: int, width: int, stride: int, *, modules: bool) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(width_in), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.projection = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else None
        self.relu = nn.ReLU() if modules else F.relu

    def forward(self, x: Tensor) -> Tensor:
        ready = self.relu(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(ready)
        out = self.conv2(self.relu(self.bn2(self.conv1(ready))))
        return torch.add(out, shortcut)


class ResNet32(nn.Module):
    def __init__(self, *, modules: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        blocks, width = [], 16
        for stage, out in enumerate((16, 32, 64)):
            for i in range(5):
                stride = 2 if stage and not i else 1
                blocks.append(PreBlock(width, out, stride, modules=modules))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.blocks(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ResNet32Functional(nn.Module):
    """Every layer in a flat list and one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.convs, self.norms, self.projections = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        width = 16
        for stage, out in enumerate((16, 32, 64)):
            for i in range(5):
                stride = 2 if stage and not i else 1
                self.norms.extend([nn.BatchNorm2d(width), nn.BatchNorm2d(out)])
                if stride == 2:
                    self.projections[f"block{stage * 5}"] = nn.Conv2d(width, out, 1, 2)
                self.convs.append(nn.Conv2d(width, out, 3, stride, 1))
                self.convs.append(nn.Conv2d(out, out, 3, 1, 1))
                width = out
        self.bn, self.fc = nn.BatchNorm2d(64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(15):
            ready = self.norms[2 * i](x).relu()
            if f"block{i}" in self.projections:
                x = self.projections[f"block{i}"](ready)
            h = self.convs[2 * i](ready)
            x = x + self.convs[2 * i + 1](F.relu(self.norms[2 * i + 1](h)))
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))


STYLES: dict[str, dict[str, Callable[[], nn.Module]]] = {
    name: {
        "sequential": partial(chain_sequential, chain),
        "modules": partial(ChainModules, chain),
        "functional": partial(ChainFunctional, chain),
    }
    for name, chain in {"LeNetFC": LENET, "NIN-light": NIN_LIGHT, "NIN": NIN}.items()
}
STYLES["ResNet32"] = {
    "modules": partial(ResNet32, modules=True),
    "mixed": partial(ResNet32, modules=False),
    "functional": ResNet32Functional,
}
