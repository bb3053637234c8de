"""Random networks: whatever is put together from these parts converts, and all properties hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from td_transform import plan_topdown, to_topdown
from td_transform.analyse import analyse
from td_transform.trace import trace
from tests.networks import (
    Blur,
    ChannelShuffle,
    Classifier,
    ConvNeXtBlock,
    Dense,
    Inception,
    InvertedBottleneck,
    PreActivation,
    Residual,
    cna,
)
from tests.properties import check_network

SIZE = (3, 32, 32)
Layers = list[nn.Module]


class Flat(nn.Module):
    """Functional style: the layers are modules, all else is called as a function."""

    def __init__(self, body: nn.Module, pool: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.body, self.pool, self.fc = body, pool, nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.body(x)), 1))


class Twice(nn.Module):
    """A shared module."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(F.relu(self.block(x)))


widths = st.sampled_from([8, 12, 16])


def block_of(draw: st.DrawFn, kind: str, width_in: int, width: int, stride: int) -> nn.Module:
    """A block that sets width and stride."""
    if kind == "residual":
        bottleneck = draw(st.booleans())
        groups = draw(st.sampled_from([1, 2])) if bottleneck else 1
        gate = draw(st.booleans())
        return Residual(width_in, width, stride, bottleneck=bottleneck, groups=groups, gate=gate)
    if kind == "pre-activation":
        return PreActivation(width_in, width, stride)
    if kind == "depthwise":
        return InvertedBottleneck(width_in, width, stride, draw(st.sampled_from([1, 2, 3])))
    return cna(width_in, width, draw(st.sampled_from([1, 3, 5])) if stride == 1 else 3, stride)


def extra(draw: st.DrawFn, kind: str, width: int) -> tuple[Layers, int]:
    """What stands within a stage after its first block."""
    if kind == "concatenation":
        if draw(st.booleans()):
            growth = draw(st.sampled_from([2, 4]))
            return [Dense(width, growth, 2)], width + 2 * growth
        out = draw(widths)
        return [Inception(width, out)], out
    if kind == "dilated":
        dilation = draw(st.sampled_from([2, 3]))
        return [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()], width
    if kind == "shuffle":
        return [ChannelShuffle(width)], width
    if kind == "convnext":
        return [ConvNeXtBlock(width)], width
    if kind == "shared":
        return [Twice(cna(width, width))], width
    return [block_of(draw, kind, width, width, 1)], width


def downsampling(draw: st.DrawFn, kind: str, width: int, out: int) -> Layers:
    """From one stage to the next."""
    pool = draw(st.sampled_from(["strided", "max", "average", "blur", "unshuffle"]))
    if pool == "strided":
        return [block_of(draw, kind, width, out, 2)]
    if pool == "unshuffle":
        return [nn.PixelUnshuffle(2), cna(4 * width, out, 1)]
    layers: dict[str, nn.Module] = {
        "max": nn.MaxPool2d(3, 2, 1), "average": nn.AvgPool2d(2), "blur": Blur(width),
    }  # fmt: skip
    return [layers[pool], block_of(draw, kind, width, out, 1)]


STEMS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda width: cna(3, width),
    "strided": lambda width: cna(3, width, 5, 2),
    "pooled": lambda width: nn.Sequential(cna(3, width, 3, 2), nn.MaxPool2d(3, 2, 1)),
    "patchify": lambda width: nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GroupNorm(1, width)),
    "pixel-unshuffle": lambda width: nn.Sequential(nn.PixelUnshuffle(2), cna(12, width)),
    "bare": lambda width: nn.Conv2d(3, width, 3, padding=1),
}


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    kind = draw(st.sampled_from(["plain", "residual", "pre-activation", "depthwise"]))
    inner = ["concatenation", "dilated", "shuffle", "convnext", "shared", kind]
    width = draw(widths)
    layers: Layers = [STEMS[draw(st.sampled_from(sorted(STEMS)))](width)]
    for stage in range(draw(st.integers(2, 3))):
        if stage:
            out = draw(widths)
            layers += downsampling(draw, kind, width, out)
            width = out
        for _ in range(draw(st.integers(1, 2))):
            made, width = extra(draw, draw(st.sampled_from(inner)), width)
            layers += made
    if kind == "pre-activation":
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    if draw(st.booleans()):
        pool = draw(
            st.sampled_from([lambda x: x.mean((2, 3)), lambda x: F.adaptive_avg_pool2d(x, 1)])
        )
        return Flat(nn.Sequential(*layers), pool, width)
    return nn.Sequential(*layers, Classifier(width))


@settings(
    max_examples=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(networks(), st.sampled_from(["td", "reversed", "uniform"]), st.booleans())
def test_any_network(model: nn.Module, arrangement: str, own_stride: bool) -> None:
    note(str(model))
    torch.manual_seed(0)
    output_stride = analyse(trace(model, SIZE)).stages[0].stride if own_stride else 1
    options = {"input_size": SIZE, "arrangement": arrangement, "output_stride": output_stride}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        note(str(plan_topdown(model, **options)))
        td = to_topdown(model, **options)
    assert td.plan.levels[-1].stride == output_stride
    check_network(td.train(), torch.rand(2, 3, 35, 29), classes=7)
