"""CNNs of timm of kinds that torchvision has no counterpart of, on the meta device."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from td_transform import receptive_field, to_topdown
from td_transform.torchvision_cpu import import_torchvision
from tests.fields.oracle import compare
from tests.properties import check_network

KINDS = [
    "cspresnet50",  # cross-stage partial blocks
    "dla34",  # layer aggregation
    "dm_nfnet_f0",  # scaled weights, 'same' padding in the layer's own forward, gains
    "dpn48b",  # channel slices
    "ecaresnet26t",  # attention along the channels
    "ghostnet_100",  # slices up to the whole width
    "inception_resnet_v2",
    "mobilenetv4_conv_small",  # universal inverted bottlenecks
    "repvgg_a0",  # re-parametrised branches
    "res2net50_26w_4s",  # constant splits
    "resnest14d",  # split attention
    "resnetblur50",  # anti-aliased
    "resnetv2_50x1_bit",  # weight standardisation, pre-activation, GroupNorm with an activation
    "rexnet_100",  # partial channel slices
    "selecsls42b",
    "seresnet33ts",
    "skresnet18",  # selective kernels
    "vgg11_bn",  # control flow on sizes in its head
    "vovnet39a",  # one-shot aggregation
    "xception41",
]


# what a change is most likely to break; the others take seconds each
DAILY = ["dpn48b", "ecaresnet26t", "ghostnet_100", "resnest14d", "resnetv2_50x1_bit"]


def rarely(names: list[str]) -> list[Any]:
    """Of these, only the daily ones in `make test`."""
    return [pytest.param(n, marks=() if n in DAILY else pytest.mark.exhaustive) for n in names]


@pytest.mark.parametrize(
    "arrangement", ["td", pytest.param("uniform", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("name", rarely(KINDS))
def test_converts(name: str, arrangement: str) -> None:
    import_torchvision()
    import timm

    with torch.device("meta"):
        model = timm.create_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        td = to_topdown(model, input_size=(3, 128, 128), arrangement=arrangement)
    td.eval()(torch.empty(2, 3, 128, 128, device="meta")).sum().backward()
    assert [name for name, p in td.named_parameters() if p.grad is None] == []
    assert sum(p.numel() for p in td.parameters()) == td.plan.parameters
    assert td.plan.levels[-1].stride == 1


class _Routed(nn.Module):
    """An expansion, a depthwise and a pointwise convolution, whose kernels are mixed of experts'."""

    def __init__(self, width: int, out: int, stride: int, padding: str) -> None:
        super().__init__()
        from timm.layers.cond_conv2d import CondConv2d

        inner, experts = 2 * width, {"num_experts": 3, "padding": padding}
        self.skips = stride == 1 and width == out
        self.routing = nn.Linear(width, 3)
        self.expand = CondConv2d(width, inner, 1, bias=True, **experts)
        self.deep = CondConv2d(inner, inner, 3, stride, groups=inner, **experts)
        self.norm = nn.BatchNorm2d(inner)
        self.contract = CondConv2d(inner, out, 1, **experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.sigmoid(self.routing(x.mean((2, 3))))
        y = torch.relu(self.norm(self.deep(self.expand(x, parts), parts)))
        y = self.contract(y, parts)
        return x + y if self.skips else y


def routed(padding: str) -> nn.Module:
    blocks = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 24, 2), (24, 24, 1)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        *(_Routed(*sizes, padding) for sizes in blocks),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 7),
    )  # fmt: skip


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_kernels_mixed_of_experts(arrangement: str, padding: str) -> None:
    import_torchvision()
    torch.manual_seed(0)
    model, size = routed(padding), (3, 16, 20)
    td = to_topdown(model, input_size=size, arrangement=arrangement)
    assert td.plan.opaque == ()
    assert {type(m).__name__ for m in td.levels[2].stage.modules()} >= {"CondConv2d"}
    check_network(td, torch.rand(3, *size), classes=7)


@pytest.mark.parametrize("padding", ["", "same"])
def test_receptive_fields_of_kernels_mixed_of_experts(padding: str) -> None:
    import_torchvision()
    fields = receptive_field(routed(padding), (3, 16, 20))
    names = [node for node in fields if node.endswith(("deep", "norm"))]
    assert len(names) == 10
    assert compare(fields, names, 2, torch.Generator().manual_seed(0)) == 20


# 'same' padding by the layer, space-to-depth by views, anti-aliasing, recalibration, channel slices
FIELDS = [
    "tf_efficientnet_b0",
    "tresnet_m",
    "resnetblur18",
    "ecaresnet26t",
    "dpn48b",
    "res2net50_26w_4s",
]


@pytest.mark.parametrize("name", rarely(FIELDS))
def test_receptive_fields(name: str) -> None:
    import_torchvision()
    import timm

    with torch.device("meta"):
        model = timm.create_model(name)
    fields = receptive_field(model, (3, 61, 64) if name != "tresnet_m" else (3, 64, 64))
    maps = [
        node
        for node, row in fields.items()
        if row.stride != (None, None) and fields.trace_shape(node)[2:] == row.output_size
    ]
    torch.manual_seed(0)
    chosen = [*maps[4 : len(maps) : len(maps) // 6], maps[-1]]
    assert compare(fields, list(dict.fromkeys(chosen)), 2, torch.Generator().manual_seed(0)) > 5
