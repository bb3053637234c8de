"""Lines, pictures and volumes: torch's layers by the number of axes that they slide over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Value = TypeVar("Value")

PADDING_LAYERS = (
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.modules.padding._CircularPadNd,
)


class Dimension(NamedTuple):
    """What torch has for maps of one number of axes.

    Args:
        conv, transposed_conv, max_pool, average_pool, power_pool, adaptive_pool, replication_pad:
            its modules.
        convolve, maximum: its functions.
        linear: what `F.interpolate` calls linear interpolation.
        names: of the axes, in the order of the tensor.
        sides: the letters of their lengths, as shapes are written.
    """

    conv: type[nn.modules.conv._ConvNd]
    transposed_conv: type[nn.modules.conv._ConvTransposeNd]
    max_pool: type[nn.modules.pooling._MaxPoolNd]
    average_pool: type[nn.modules.pooling._AvgPoolNd]
    power_pool: type[nn.modules.pooling._LPPoolNd]
    adaptive_pool: type[nn.modules.pooling._AdaptiveAvgPoolNd]
    replication_pad: type[nn.modules.padding._ReplicationPadNd]
    convolve: Callable[..., Tensor]
    maximum: Callable[..., Tensor]
    linear: str
    names: tuple[str, ...]
    sides: str


DIMENSIONS = {
    1: Dimension(
        nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d,
        nn.AdaptiveAvgPool1d, nn.ReplicationPad1d, F.conv1d, F.max_pool1d, "linear", ("horizontal",), "L",
    ),
    2: Dimension(
        nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d,
        nn.AdaptiveAvgPool2d, nn.ReplicationPad2d, F.conv2d, F.max_pool2d, "bilinear",
        ("vertical", "horizontal"), "H, W",
    ),
    3: Dimension(
        nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d,
        nn.AdaptiveAvgPool3d, nn.ReplicationPad3d, F.conv3d, F.max_pool3d, "trilinear",
        ("frontal", "vertical", "horizontal"), "D, H, W",
    ),
}  # fmt: skip


def per_axis(value: Value | Sequence[Value], axes: int) -> tuple[Value, ...]:
    """One value for every axis, or one each, as a tuple."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * axes if len(values) == 1 else values


def by(values: Sequence[object]) -> str:
    """Sides or kernels as text: 7, 7x7, 3x7x7."""
    return "x".join(map(str, values))


def agreed(values: Sequence[object]) -> str:
    """Strides as text: one number where all axes agree."""
    return str(values[0]) if len(set(values)) == 1 else by(values)
