"""The layers known from the start and their functions, as tables: one line an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from td_transform.layers import Pyramid, Upsample
from td_transform.layers.dimensions import PADDING_LAYERS
from td_transform.operators import (
    elementwise,
    normalising,
    products,
    reach,
    recurrent,
    resizing,
    rules,
    topdown_layers,
    windows,
)
from td_transform.operators.dimensions import Window
from td_transform.operators.opaque import everything
from td_transform.operators.registry import Call, Operator, Role, register_operator
from td_transform.taps import Reach


def register_all(
    targets: Iterable[Any],
    role: Role,
    infer: Callable[[Call], Any],
    window: Callable[[Call], Window] | None = None,
    resize: Callable[[Any, Mapping[str, int]], None] | None = None,
    *,
    reach: Callable[[Call], Reach] | None = None,
    **facts: Any,
) -> None:
    for target in targets:
        name = getattr(target, "__name__", str(target).rsplit(".", 1)[-1])
        register_operator(target, Operator(name, role, infer, window, resize, reach, **facts))


_EVOLVED_NORMS = [
    *(f"timm.layers.evo_norm.EvoNorm2d{kind}" for kind in ("B0", "B1", "B2", "S0", "S1", "S2")),
    *(f"timm.layers.filter_response_norm.FilterResponseNorm{kind}2d" for kind in ("Tlu", "Act")),
]


def _dropout_as(function: Any, kind: type[nn.Module]) -> Callable[[Call], nn.Module | None]:
    """The module, but for a dropout that its forward wants in eval mode as well (Monte Carlo)."""
    default = "alpha" not in function.__name__

    def made(call: Call) -> nn.Module | None:
        always = call.node.kwargs.get("train", call.option("training", 2, default))
        return None if always else kind(call.number("p", 1, 0.5))

    return made


register_all(
    elementwise.ACTIVATIONS, "activation", rules.keep, reach=reach.pointwise, keeps_shape=True
)
register_all(
    [nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin, F.softmax, F.log_softmax, F.softmin,
     torch.softmax, torch.log_softmax, torch.special.softmax, torch.special.log_softmax],
    "activation", rules.keep, reach=reach.along_dimension(1), keeps_shape=True,
)  # fmt: skip
register_all(
    [nn.PReLU],
    "activation",
    rules.prelu,
    None,
    resizing.resize_vectors,
    reach=reach.pointwise,
    keeps_shape=True,
)
register_all(
    [F.gumbel_softmax],
    "activation",
    rules.keep,
    reach=reach.along_dimension(4, -1),
    keeps_shape=True,
)
register_all([F.prelu, torch.prelu], "activation", rules.prelu_of, reach=reach.pointwise)
register_all([nn.GLU, F.glu], "combine", rules.glu)
register_all(elementwise.DROPOUTS, "inert", rules.keep, reach=reach.pointwise, keeps_shape=True)
for function, kind in elementwise.FUNCTIONAL_DROPOUTS.items():
    register_all(
        [function], "inert", rules.keep, reach=reach.pointwise, keeps_shape=True,
        as_module=_dropout_as(function, kind),
    )  # fmt: skip
register_all(elementwise.INERT, "inert", rules.keep, reach=reach.first_input)
register_all([nn.LocalResponseNorm, nn.CrossMapLRN2d, F.local_response_norm], "inert", rules.keep)
register_all([F.normalize], "inert", rules.keep, reach=reach.along_dimension(2, 1))

register_all(
    [nn.Conv2d, nn.Conv3d, F.conv2d, F.conv3d, torch.conv2d, torch.conv3d],
    "conv", rules.conv, windows.conv_window, resizing.resize_conv, reach=reach.convolution,
    without_stride=resizing.conv_without_stride,
)  # fmt: skip
register_all(
    ["timm.layers.conv2d_same.Conv2dSame", "timm.layers.std_conv.StdConv2dSame",
     "timm.layers.std_conv.ScaledStdConv2dSame"],
    "conv", rules.conv, windows.conv_window, resizing.resize_conv, reach=reach.same_padded,
)  # fmt: skip
register_all(
    ["timm.layers.cond_conv2d.CondConv2d"],
    "conv", rules.conditional_conv, windows.conv_window, resizing.resize_conditional_conv,
    reach=reach.conditional,
)  # fmt: skip
register_all(
    [nn.Conv1d, F.conv1d, torch.conv1d],
    "conv", rules.conv_on_lines, windows.conv_window, resizing.resize_conv, reach=reach.convolution,
    without_stride=resizing.conv_without_stride,
)  # fmt: skip
register_all(
    [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, F.conv_transpose1d,
     F.conv_transpose2d, F.conv_transpose3d, torch.conv_transpose1d, torch.conv_transpose2d,
     torch.conv_transpose3d],
    "conv", rules.transposed_conv, windows.transposed_window, resizing.resize_conv,
    reach=reach.transposed,
)  # fmt: skip
register_all([nn.Linear, F.linear], "linear", rules.linear, None, resizing.resize_linear)
register_all([nn.Bilinear, F.bilinear], "linear", products.bilinear, None, resizing.resize_bilinear)
register_all(
    [nn.Embedding, F.embedding], "linear", rules.embedding, None, resizing.resize_embedding
)
register_all(
    [nn.MultiheadAttention],
    "linear", products.multihead, None, resizing.resize_attention, reach=everything,
)  # fmt: skip
register_all(
    [nn.RNNBase], "linear", recurrent.recurrent, None, recurrent.resize_recurrent, reach=everything
)

register_all(
    [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
     "torchvision.ops.misc.FrozenBatchNorm2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.batch_norm, keeps_shape=True,
)  # fmt: skip
register_all(
    [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, *_EVOLVED_NORMS],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.statistics, keeps_shape=True,
)  # fmt: skip
register_all(
    [nn.LayerNorm, nn.RMSNorm, "timm.layers.norm.RmsNorm", "timm.layers.norm.RmsNormFp32",
     "timm.layers.norm.SimpleNorm", "timm.layers.norm.SimpleNormFp32"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.layer_norm, keeps_shape=True,
)  # fmt: skip
register_all(
    ["timm.layers.norm.RmsNorm2d", "timm.layers.norm.RmsNorm2dFp32",
     "timm.layers.norm.SimpleNorm2d", "timm.layers.norm.SimpleNorm2dFp32"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.layer_norm, keeps_shape=True,
)  # fmt: skip
register_all(
    ["timm.layers.norm_act.FrozenBatchNormAct2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip
register_all(
    [F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm, F.group_norm,
     torch.group_norm],
    "norm", normalising.along_channels, reach=reach.statistics,
)  # fmt: skip
register_all(
    [F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm],
    "norm", normalising.along_last, reach=reach.layer_norm,
)  # fmt: skip
register_all(
    ["timm.layers.grn.GlobalResponseNorm"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.statistics, keeps_shape=True,
)  # fmt: skip
register_all(
    ["timm.layers.layer_scale.LayerScale", "timm.models.convnext.LayerScale"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip
register_all(
    ["timm.layers.layer_scale.LayerScale2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip

register_all(
    [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d,
     torch.max_pool1d, torch.max_pool2d, torch.max_pool3d],
    "pool", rules.pool, windows.max_pool_window, reach=reach.max_pooling,
    without_stride=resizing.max_pool_without_stride,
)  # fmt: skip
register_all(
    [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d,
     F.avg_pool1d, F.avg_pool2d, F.avg_pool3d],
    "pool", rules.pool, windows.average_pool_window, reach=reach.average_pooling,
    without_stride=resizing.average_pool_without_stride,
)  # fmt: skip
register_all(
    [F.lp_pool1d, F.lp_pool2d, F.lp_pool3d],
    "pool", rules.pool, windows.power_pool_window, reach=reach.average_pooling,
    without_stride=resizing.power_pool_without_stride,
)  # fmt: skip
register_all(
    ["timm.layers.pool2d_same.MaxPool2dSame"],
    "pool", rules.pool, windows.max_pool_window, reach=reach.same_padded,
)  # fmt: skip
register_all(
    ["timm.layers.pool2d_same.AvgPool2dSame"],
    "pool", rules.pool, windows.average_pool_window, reach=reach.same_padded,
)  # fmt: skip
register_all(
    [nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, F.adaptive_avg_pool1d,
     F.adaptive_avg_pool2d, F.adaptive_avg_pool3d],
    "collapse", rules.adaptive, reach=reach.adaptive, gathers="mean",
)  # fmt: skip
register_all(
    [nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, F.adaptive_max_pool1d,
     F.adaptive_max_pool2d, F.adaptive_max_pool3d],
    "collapse", rules.adaptive, reach=reach.adaptive, gathers="max",
)  # fmt: skip
register_all(
    [nn.PixelUnshuffle, F.pixel_unshuffle, torch.pixel_unshuffle],
    "pool", rules.pixel_unshuffle, windows.unshuffle_window, reach=reach.rearranged,
)  # fmt: skip
register_all(
    [nn.PixelShuffle, F.pixel_shuffle, torch.pixel_shuffle],
    "pool", rules.pixel_shuffle, windows.shuffle_window, reach=reach.rearranged,
)  # fmt: skip
register_all(
    [nn.ChannelShuffle, torch.channel_shuffle, F.channel_shuffle], "inert", rules.channel_shuffle
)
register_all(
    [nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, F.interpolate],
    "pool", rules.resize_map, windows.resize_window, reach=reach.resize,
)  # fmt: skip
register_all([*PADDING_LAYERS, F.pad], "pool", rules.pad, reach=reach.padded)

register_all(
    [Pyramid],
    "pool", topdown_layers.pyramid, reach=topdown_layers.pyramid_reach,
)  # fmt: skip
register_all(
    [Upsample],
    "pool", topdown_layers.upsample, reach=topdown_layers.upsample_reach,
)  # fmt: skip
