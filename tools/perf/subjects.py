"""The networks that are measured, with the size of their images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from benchmarks.subjects.models import lenet_fc, nin, nin_light, resnet32
from td_transform import TopDownNetwork, to_topdown
from td_transform.cli.model_names import load_model
from tools.perf.handwritten import LeNetFCTD, ResNet32TD

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Subject:
    """A bottom-up network.

    Args:
        build: makes it.
        size: (C, H, W) of its images.
        by_hand: makes its top-down network as one writes it by hand; None where nobody did.
    """

    build: Callable[[], nn.Module]
    size: Size
    by_hand: Callable[[], nn.Module] | None = None

    def top_down(self, model: nn.Module) -> TopDownNetwork:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return to_topdown(model, input_size=self.size)


def subjects(side: int) -> dict[str, Subject]:
    """The paper's four and four of torchvision's, those at images of side x side pixels."""
    foreign = ("resnet18", "resnet50", "mobilenet_v3_large", "convnext_tiny")
    return {
        "LeNetFC": Subject(lenet_fc, (1, 28, 28), LeNetFCTD),
        "NIN-light": Subject(nin_light, (1, 28, 28)),
        "NIN": Subject(nin, (3, 32, 32)),
        "ResNet32": Subject(resnet32, (3, 32, 32), ResNet32TD),
        **{name: Subject(partial(load_model, name), (3, side, side)) for name in foreign},
    }
