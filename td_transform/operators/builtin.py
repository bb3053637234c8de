"""The operators known from the start, as tables: one line an operator."""

from __future__ import annotations

import operator as op
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from td_transform.layers import Pyramid, Upsample
from td_transform.layers.dimensions import PADDING_LAYERS
from td_transform.operators import (
    indexing,
    making,
    mutation,
    normalising,
    products,
    reach,
    reshaping,
    resizing,
    rules,
    topdown_layers,
    windows,
)
from td_transform.operators.opaque import everything
from td_transform.operators.registry import Call, Operator, Role, Window, register_operator
from td_transform.taps import Reach


def _register(
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


_ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.RReLU,
    nn.Tanhshrink, nn.Threshold,
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish,
    F.softplus, F.softsign, F.logsigmoid, F.hardtanh, F.hardswish,
    F.hardsigmoid, F.rrelu, F.sigmoid, F.tanh, F.threshold,
    torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.clamp,
    "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "clamp", "clamp_",
]  # fmt: skip
_DROPOUTS = [
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    "torchvision.ops.stochastic_depth.StochasticDepth",
    "torchvision.ops.drop_block.DropBlock2d",
    "timm.layers.drop.DropPath", "timm.layers.drop.DropBlock2d",
]  # fmt: skip
_FUNCTIONAL_DROPOUTS = {
    F.dropout: nn.Dropout, torch.dropout: nn.Dropout, F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d, F.dropout3d: nn.Dropout3d, F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}  # fmt: skip
_INERT = [
    nn.Identity, "contiguous", "clone", "detach", "to", "float", "type_as", torch.clone, torch.detach,
]  # fmt: skip
_SUMS = [op.add, op.iadd, torch.add, "add"]
_PRODUCTS = [op.mul, op.imul, torch.mul, "mul"]
_ARITHMETIC = [
    op.sub, op.truediv, op.floordiv, op.mod, op.neg, op.pow, op.isub, op.itruediv, op.ifloordiv,
    torch.sub, torch.div, torch.maximum, torch.minimum, torch.abs, torch.exp, torch.sqrt,
    torch.rsqrt, torch.pow, torch.neg, torch.square, torch.addcmul, torch.true_divide, "sub", "div",
    "pow", "sqrt", "rsqrt", "exp", "abs", "neg", "square",
]  # fmt: skip


_EVOLVED_NORMS = [
    *(f"timm.layers.evo_norm.EvoNorm2d{kind}" for kind in ("B0", "B1", "B2", "S0", "S1", "S2")),
    *(f"timm.layers.filter_response_norm.FilterResponseNorm{kind}2d" for kind in ("Tlu", "Act")),
]
_OF_SEVERAL_TENSORS = [
    op.gt, op.ge, op.lt, op.le, op.eq, op.ne, op.and_, op.or_, torch.gt, torch.ge, torch.lt,
    torch.le, torch.eq, torch.ne, torch.logical_and, torch.logical_or, "gt", "ge", "lt", "le", "eq",
    "ne", torch.lerp, torch.atan2, "lerp", "addcmul", "masked_fill",
]  # fmt: skip
_ELEMENTWISE = [
    op.invert, op.abs, torch.sin, torch.cos, torch.log, torch.log1p, torch.expm1, torch.floor,
    torch.ceil, torch.round, torch.sign, torch.reciprocal, torch.erf, torch.isnan, torch.nan_to_num,
    torch.logical_not, torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like,
    torch.rand_like, torch.randn_like, "sin", "cos", "log", "floor", "ceil", "round", "sign", "half",
    "bfloat16", "double", "bool", "long", "abs_", "exp_", "neg_", "sqrt_",
]  # fmt: skip


def _combine(call: Call) -> Any:
    """Arithmetic on tensors or on sizes."""
    return rules.same(call) if call.tensors else indexing.arithmetic(call)


def _dropout_as(kind: type[nn.Module]) -> Callable[[Call], nn.Module]:
    return lambda call: kind(call.number("p", 1, 0.5))


_register(_ACTIVATIONS, "activation", rules.keep, reach=reach.pointwise, keeps_shape=True)
_register(
    [nn.Softmax, nn.LogSoftmax, nn.Softmax2d, F.softmax, F.log_softmax, torch.softmax,
     torch.log_softmax, "softmax", "log_softmax"],
    "activation", rules.keep, reach=reach.along_dimension(1), keeps_shape=True,
)  # fmt: skip
_register(
    [nn.PReLU],
    "activation",
    rules.prelu,
    None,
    resizing.resize_vectors,
    reach=reach.pointwise,
    keeps_shape=True,
)
_register([nn.GLU, F.glu], "combine", rules.glu)
_register(_DROPOUTS, "inert", rules.keep, reach=reach.pointwise, keeps_shape=True)
for function, kind in _FUNCTIONAL_DROPOUTS.items():
    _register(
        [function], "inert", rules.keep, reach=reach.pointwise, keeps_shape=True,
        as_module=_dropout_as(kind),
    )  # fmt: skip
_register(_INERT, "inert", rules.keep, reach=reach.first_input)
_register([nn.LocalResponseNorm, F.local_response_norm], "inert", rules.keep)
_register([F.normalize], "inert", rules.keep, reach=reach.along_dimension(2, 1))
_register(_SUMS, "combine", _combine, reach=reach.pointwise, combines="sum")
_register(_PRODUCTS, "combine", _combine, reach=reach.pointwise, combines="product")
_register(_ARITHMETIC, "combine", _combine, reach=reach.pointwise)
_register(_OF_SEVERAL_TENSORS, "combine", rules.same, reach=reach.pointwise)
_register(_ELEMENTWISE, "inert", rules.keep, reach=reach.first_input)
_register([torch.where, "where"], "combine", products.choice, reach=reach.pointwise)
_register([torch.roll, "roll", torch.flip, "flip"], "inert", rules.keep, reach=everything)
_register([torch.cumsum, "cumsum"], "inert", rules.keep, reach=everything)
_register([torch.cat, torch.concat, torch.concatenate], "combine", rules.concat, channels="join")

_register(
    [nn.Conv2d, nn.Conv3d, F.conv2d, F.conv3d, torch.conv2d, torch.conv3d],
    "conv", rules.conv, windows.conv_window, resizing.resize_conv, reach=reach.convolution,
    without_stride=resizing.conv_without_stride,
)  # fmt: skip
_register(
    ["timm.layers.conv2d_same.Conv2dSame", "timm.layers.std_conv.StdConv2dSame",
     "timm.layers.std_conv.ScaledStdConv2dSame"],
    "conv", rules.conv, windows.conv_window, resizing.resize_conv, reach=reach.same_padded,
)  # fmt: skip
_register(
    ["timm.layers.cond_conv2d.CondConv2d"],
    "conv", rules.conditional_conv, windows.conv_window, resizing.resize_conditional_conv,
    reach=reach.conditional,
)  # fmt: skip
_register(
    [nn.Conv1d, F.conv1d, torch.conv1d],
    "conv", rules.conv_on_lines, windows.conv_window, resizing.resize_conv, reach=reach.convolution,
    without_stride=resizing.conv_without_stride,
)  # fmt: skip
_register(
    [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, F.conv_transpose1d,
     F.conv_transpose2d, F.conv_transpose3d, torch.conv_transpose1d, torch.conv_transpose2d,
     torch.conv_transpose3d],
    "conv", rules.transposed_conv, windows.transposed_window, resizing.resize_conv,
    reach=reach.transposed,
)  # fmt: skip
_register([nn.Linear, F.linear], "linear", rules.linear, None, resizing.resize_linear)

_register(
    [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
     "torchvision.ops.misc.FrozenBatchNorm2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.batch_norm, keeps_shape=True,
)  # fmt: skip
_register(
    [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, *_EVOLVED_NORMS],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.statistics, keeps_shape=True,
)  # fmt: skip
_register(
    [nn.LayerNorm, nn.RMSNorm, "timm.layers.norm.RmsNorm", "timm.layers.norm.RmsNormFp32",
     "timm.layers.norm.SimpleNorm", "timm.layers.norm.SimpleNormFp32"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.layer_norm, keeps_shape=True,
)  # fmt: skip
_register(
    ["timm.layers.norm.RmsNorm2d", "timm.layers.norm.RmsNorm2dFp32",
     "timm.layers.norm.SimpleNorm2d", "timm.layers.norm.SimpleNorm2dFp32"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.layer_norm, keeps_shape=True,
)  # fmt: skip
_register(
    ["timm.layers.norm_act.FrozenBatchNormAct2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip
_register(
    [F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm, F.group_norm,
     torch.group_norm],
    "norm", normalising.along_channels, reach=reach.statistics,
)  # fmt: skip
_register(
    [F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm],
    "norm", normalising.along_last, reach=reach.layer_norm,
)  # fmt: skip
_register(
    ["timm.layers.grn.GlobalResponseNorm"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.statistics, keeps_shape=True,
)  # fmt: skip
_register(
    ["timm.layers.layer_scale.LayerScale", "timm.models.convnext.LayerScale"],
    "norm", rules.norm(None), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip
_register(
    ["timm.layers.layer_scale.LayerScale2d"],
    "norm", rules.norm(1), None, resizing.resize_vectors, reach=reach.pointwise, keeps_shape=True,
)  # fmt: skip

_register(
    [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d,
     torch.max_pool1d, torch.max_pool2d, torch.max_pool3d],
    "pool", rules.pool, windows.max_pool_window, reach=reach.max_pooling,
    without_stride=resizing.max_pool_without_stride,
)  # fmt: skip
_register(
    [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d,
     F.avg_pool1d, F.avg_pool2d, F.avg_pool3d],
    "pool", rules.pool, windows.average_pool_window, reach=reach.average_pooling,
    without_stride=resizing.average_pool_without_stride,
)  # fmt: skip
_register(
    ["timm.layers.pool2d_same.MaxPool2dSame"],
    "pool", rules.pool, windows.max_pool_window, reach=reach.same_padded,
)  # fmt: skip
_register(
    ["timm.layers.pool2d_same.AvgPool2dSame"],
    "pool", rules.pool, windows.average_pool_window, reach=reach.same_padded,
)  # fmt: skip
_register(
    [nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, F.adaptive_avg_pool1d,
     F.adaptive_avg_pool2d, F.adaptive_avg_pool3d],
    "collapse", rules.adaptive, reach=reach.adaptive, gathers="mean",
)  # fmt: skip
_register(
    [nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, F.adaptive_max_pool1d,
     F.adaptive_max_pool2d, F.adaptive_max_pool3d],
    "collapse", rules.adaptive, reach=reach.adaptive, gathers="max",
)  # fmt: skip
_register([torch.mean, "mean"], "collapse", rules.reduce, gathers="mean")
_register([torch.sum, "sum"], "collapse", rules.reduce, gathers="sum")
_register([torch.amax, "amax"], "collapse", rules.reduce, gathers="max")
_register([torch.amin, "amin"], "collapse", rules.reduce, gathers="min")
_register([torch.var, torch.std, "var", "std"], "collapse", rules.reduce)

_register(
    [torch.max, torch.min, "max", "min"],
    "collapse",
    products.extreme,
)
_register([torch.argmax, torch.argmin, "argmax", "argmin"], "collapse", products.extreme)
_register([torch.topk, "topk"], "combine", products.largest, reach=reach.along_dimension(2, -1))
_register([torch.sort, "sort"], "combine", products.in_order, reach=reach.along_dimension(1, -1))
_register(
    [op.matmul, torch.matmul, torch.bmm, "matmul", "bmm"],
    "linear", products.matmul, reach=everything,
)  # fmt: skip
_register([torch.einsum], "linear", products.einsum, reach=everything)
_register([F.scaled_dot_product_attention], "combine", products.attention, reach=everything)
_register(
    [nn.MultiheadAttention],
    "linear", products.multihead, None, resizing.resize_attention, reach=everything,
)  # fmt: skip
_register([torch.unbind, "unbind"], "combine", products.unbind, reach=everything)

_register(
    [nn.PixelUnshuffle, F.pixel_unshuffle, torch.pixel_unshuffle],
    "pool", rules.pixel_unshuffle, windows.unshuffle_window, reach=reach.rearranged,
)  # fmt: skip
_register(
    [nn.PixelShuffle, F.pixel_shuffle, torch.pixel_shuffle],
    "pool", rules.pixel_shuffle, windows.shuffle_window, reach=reach.rearranged,
)  # fmt: skip
_register(
    [nn.ChannelShuffle, torch.channel_shuffle, F.channel_shuffle], "inert", rules.channel_shuffle
)
_register(
    [nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, F.interpolate],
    "pool", rules.resize_map, windows.resize_window, reach=reach.resize,
)  # fmt: skip
_register([*PADDING_LAYERS, F.pad], "pool", rules.pad, reach=reach.padded)

_register(
    [nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, "view", "reshape", "flatten", "unflatten"],
    "inert", reshaping.reshape, reach=reach.rearranged,
)  # fmt: skip
_register([nn.Unfold, F.unfold], "inert", reshaping.unfold, reach=everything)
_register(["reshape_as", "view_as"], "inert", reshaping.reshape_as, reach=reach.rearranged)
_register([torch.permute, "permute", "torchvision.ops.misc.Permute"], "inert", reshaping.permute)
_register([torch.transpose, "transpose", torch.swapaxes, "swapaxes"], "inert", reshaping.transpose)
_register([torch.squeeze, "squeeze"], "inert", reshaping.squeeze)
_register([torch.unsqueeze, "unsqueeze"], "inert", reshaping.unsqueeze)
_register(["expand", "expand_as"], "inert", making.expand, reach=reach.first_input)
_register([torch.tile, "repeat", "tile"], "inert", making.repeat, reach=everything)
_register(
    [torch.repeat_interleave, "repeat_interleave"],
    "inert", making.repeat_interleave, reach=everything,
)  # fmt: skip
_register([torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn], "inert", making.made)
_register(["new_zeros", "new_ones", "new_empty", "new_full"], "inert", making.made_like)
_register([torch.eye], "inert", making.eye)
_register([torch.arange], "inert", making.counted)
_register([torch.linspace], "inert", making.divided)
_register([torch.stack], "combine", reshaping.stack)
_register([torch.chunk, "chunk"], "combine", rules.chunk, channels="part")
_register([torch.split, "split"], "combine", rules.split, channels="part")

_register([mutation.assigned], "combine", indexing.assigned, reach=everything)
_register([mutation.after], "inert", rules.keep, reach=reach.first_input)
_register(["size"], "index", indexing.size)
_register([getattr], "index", indexing.attribute)
_register(
    [op.getitem],
    "combine",
    indexing.getitem,
    reach=reach.indexed,
    channels="index",
)

_register(
    [Pyramid],
    "pool", topdown_layers.pyramid, reach=topdown_layers.pyramid_reach,
)  # fmt: skip
_register(
    [Upsample],
    "pool", topdown_layers.upsample, reach=topdown_layers.upsample_reach,
)  # fmt: skip
