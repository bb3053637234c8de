"""torchvision's classifiers, as the tests build them: without filling their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from td_transform.torchvision_cpu import import_torchvision

models = import_torchvision().models
NAMES: list[str] = models.list_models(module=models)
TRANSFORMERS = [n for n in NAMES if n.startswith(("vit_", "swin_", "maxvit_"))]
CNNS = [n for n in NAMES if n not in TRANSFORMERS]
# a plain one, residual, dense, branching, and with gates: what `make test` has time for
DAILY = ["densenet121", "googlenet", "mobilenet_v3_small", "resnet18", "vgg11_bn"]
# one of each family
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
]  # fmt: skip


def each(names: list[str], daily: list[str]) -> pytest.MarkDecorator:
    """A test's names; those that only `make test-all` runs are marked so."""
    return pytest.mark.parametrize(
        "name",
        [n if n in daily else pytest.param(n, marks=pytest.mark.exhaustive) for n in names],
    )


def build(name: str) -> nn.Module:
    """On the meta device: the largest has 645 million parameters."""
    return _unfilled(name).to("meta")


def build_on_cpu(name: str) -> nn.Module:
    """With memory for the weights that nobody has written to, so that it costs none."""
    return _unfilled(name)._apply(
        lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor
    )


class EmptyOnMeta(TorchFunctionMode):
    """Weights are shapes alone; what a builder computes with numbers, it computes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({**kwargs, "device": "meta"} if func is torch.empty else kwargs))


def _unfilled(name: str) -> nn.Module:
    with warnings.catch_warnings(), EmptyOnMeta():
        warnings.simplefilter("ignore")  # inception announces its slow initialisation
        model: nn.Module = models.get_model_builder(name)()
    return model
