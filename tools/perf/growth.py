"""Does the time per multiply-add stay flat as images, batches and levels grow?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.subjects.models import resnet32
from td_transform.cost import measure
from tools.perf.measures import Setting
from tools.perf.subjects import Subject
from tools.perf.timing import in_turn

SIDES = (32, 64, 128, 256, 512)
BATCHES = (1, 4, 16, 64, 256)
LEVELS = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Point:
    """Nanoseconds per multiply-add of inference, against the smallest of its axis."""

    axis: str
    value: int
    multiply_adds: int
    nanoseconds: float
    ratio: float


def chain(levels: int) -> nn.Module:
    """Stages of two units; all have the width that keeps a level's multiply-adds in balance."""
    width, layers = 3, list[nn.Module]()
    for level in range(levels):
        layers += [nn.MaxPool2d(2)] if level else []
        for _ in range(2):
            layers += [nn.Conv2d(width, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
            width = 32
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def growth(setting: Setting) -> list[Point]:
    """ResNet32-TD over sides and batches, chains of 32 channels at 64 pixels over levels."""
    points = _axis("side", setting, {side: (_resnet(side), 1) for side in SIDES})
    points += _axis("batch", setting, {batch: (_resnet(32), batch) for batch in BATCHES})
    return points + _axis("levels", setting, {n: (_chain(n), 4) for n in LEVELS})


def _resnet(side: int) -> Subject:
    return Subject(resnet32, (3, side, side))


def _chain(levels: int) -> Subject:
    return Subject(lambda: chain(levels), (3, 64, 64))


def _axis(name: str, setting: Setting, cases: dict[int, tuple[Subject, int]]) -> list[Point]:
    runs, costs = {}, {}
    for value, (subject, batch) in cases.items():
        td = subject.top_down(subject.build().to(setting.device)).eval()
        images = torch.rand(batch, *subject.size, device=setting.device)
        runs[str(value)] = lambda td=td, images=images: _run(td, images)
        costs[value] = measure(td, subject.size, batch=batch).multiply_adds
    times = in_turn(runs, setting.device, rounds=setting.rounds)
    smallest = next(iter(cases))
    per = {value: 1e9 * times[str(value)].seconds / costs[value] for value in cases}
    return [Point(name, v, costs[v], per[v], per[v] / per[smallest]) for v in cases]


def _run(td: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        td(images)
