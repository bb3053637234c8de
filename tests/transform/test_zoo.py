"""Every CNN of torchvision converts, in every arrangement, and trains."""

from __future__ import annotations

import warnings
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from td_transform import TopDownError, plan_topdown, to_topdown
from td_transform.analyse import analyse
from td_transform.trace import trace
from tests.properties import check_network
from tests.torchvision_networks import (
    CNNS,
    DAILY,
    FAMILIES,
    TRANSFORMERS,
    build,
    build_on_cpu,
    each,
)

INPUT = (3, 96, 96)  # inception needs 75 pixels


def affine(
    x: Tensor, _mean: Tensor, _var: Tensor, weight: Tensor, bias: Tensor, *_: object
) -> Tensor:
    """What a batch norm does to shapes and gradients; the real one takes 5 ms on the meta device."""
    return x * weight[:, None, None] + bias[:, None, None]


@each(CNNS, DAILY)
def test_converts(name: str) -> None:
    """On the meta device: shapes, gradients and strides at all settings."""
    model = build(name)
    finest = analyse(trace(model, INPUT)).stages[0].stride
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


@each(FAMILIES, ["mobilenet_v3_small", "resnet18"])
def test_runs(name: str) -> None:
    """With values: finite logits, and a finite gradient for every parameter."""
    torch.manual_seed(0)
    model = build_on_cpu(name)
    td = to_topdown(model, input_size=INPUT, output_stride=1)
    check_network(td.train(), torch.rand(2, 3, 33, 47), classes=1000)


@each(TRANSFORMERS, ["vit_b_16", "swin_t", "maxvit_t"])
def test_transformers_with_stages_convert(name: str) -> None:
    """Windows of attention pass at the model's own finest stride; one patch embedding has no stages."""
    model = build(name)
    if name.startswith("vit"):
        with pytest.raises(TopDownError, match=r"one stage at stride .* Remedy: "):
            plan_topdown(model)
        return
    td = to_topdown(model, output_stride=4)
    assert [level.stride for level in td.plan.levels] == [32, 16, 8, 4]
    images = torch.empty(1, 3, 224, 224, device="meta")
    assert td(images).shape == (1, 1000)
