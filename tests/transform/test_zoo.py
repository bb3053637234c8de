"""Every CNN of torchvision converts, in every arrangement, and trains."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import TopDownError, plan_topdown, to_topdown
from td_transform.analyse.stages import structure
from td_transform.torchvision_cpu import import_torchvision
from td_transform.trace.model import trace
from tests.properties import check_network

models = import_torchvision().models
NAMES = models.list_models(module=models)
TRANSFORMERS = [n for n in NAMES if n.startswith(("vit_", "swin_", "maxvit_"))]
CNNS = [n for n in NAMES if n not in TRANSFORMERS]
INPUT = (3, 96, 96)  # inception needs 75 pixels


@contextlib.contextmanager
def uninitialised() -> Iterator[None]:
    """Building a model without filling its weights, which are not looked at."""
    names = [n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_")]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *_, **__: tensor))
        yield


def build(name: str) -> nn.Module:
    builder = models.get_model_builder(name)
    with warnings.catch_warnings(), uninitialised():
        warnings.simplefilter("ignore")  # inception announces its slow initialisation
        return builder()


def affine(
    x: Tensor, _mean: Tensor, _var: Tensor, weight: Tensor, bias: Tensor, *_: object
) -> Tensor:
    """What a batch norm does to shapes and gradients; the real one takes 5 ms on the meta device."""
    return x * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("name", CNNS)
def test_converts(name: str) -> None:
    """On the meta device: shapes, gradients and strides at all settings."""
    model = build(name).to("meta")
    finest = structure(trace(model, INPUT)).stages[0].stride
    images = torch.empty(2, 3, 64, 64, device="meta")
    with warnings.catch_warnings(), mock.patch.object(F, "batch_norm", affine):
        warnings.simplefilter("ignore")
        for arrangement in ("td", "reversed", "uniform"):
            for output_stride in sorted({1, finest}):
                td = to_topdown(
                    model, input_size=INPUT, arrangement=arrangement, output_stride=output_stride
                )
                assert td.plan.levels[-1].stride == output_stride
                check_network(td.train(), images, classes=1000)


# one of every family, real numbers
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_runs(name: str) -> None:
    """With values: finite logits, and a finite gradient for every parameter."""
    torch.manual_seed(0)
    model = build(name)
    td = to_topdown(model, input_size=INPUT, output_stride=1)
    check_network(td.train(), torch.rand(2, 3, 33, 47), classes=1000)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_refused(name: str) -> None:
    model = build(name).to("meta")
    with pytest.raises(TopDownError, match="Remedy: "):
        plan_topdown(model)
