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
    elementwise,
    indexing,
    making,
    matrices,
    mutation,
    normalising,
    parting,
    picking,
    products,
    reach,
    recurrent,
    reductions,
    reshaping,
    resizing,
    rules,
    spectra,
    topdown_layers,
    windows,
)
from td_transform.operators.dimensions import Window
from td_transform.operators.opaque import everything
from td_transform.operators.registry import Call, Operator, Role, register_operator
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


_EVOLVED_NORMS = [
    *(f"timm.layers.evo_norm.EvoNorm2d{kind}" for kind in ("B0", "B1", "B2", "S0", "S1", "S2")),
    *(f"timm.layers.filter_response_norm.FilterResponseNorm{kind}2d" for kind in ("Tlu", "Act")),
]


def _combine(call: Call) -> Any:
    """Arithmetic on tensors or on sizes."""
    return rules.same(call) if call.tensors else indexing.arithmetic(call)


def _dropout_as(function: Any, kind: type[nn.Module]) -> Callable[[Call], nn.Module | None]:
    """The module, but for a dropout that its forward wants in eval mode as well (Monte Carlo)."""
    default = "alpha" not in function.__name__

    def made(call: Call) -> nn.Module | None:
        always = call.node.kwargs.get("train", call.option("training", 2, default))
        return None if always else kind(call.number("p", 1, 0.5))

    return made


_register(
    elementwise.ACTIVATIONS, "activation", rules.keep, reach=reach.pointwise, keeps_shape=True
)
_register(
    [nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin, F.softmax, F.log_softmax, F.softmin,
     torch.softmax, torch.log_softmax, torch.special.softmax, torch.special.log_softmax],
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
_register(
    [F.gumbel_softmax],
    "activation",
    rules.keep,
    reach=reach.along_dimension(4, -1),
    keeps_shape=True,
)
_register([F.prelu, torch.prelu], "activation", rules.prelu_of, reach=reach.pointwise)
_register([nn.GLU, F.glu], "combine", rules.glu)
_register(elementwise.DROPOUTS, "inert", rules.keep, reach=reach.pointwise, keeps_shape=True)
for function, kind in elementwise.FUNCTIONAL_DROPOUTS.items():
    _register(
        [function], "inert", rules.keep, reach=reach.pointwise, keeps_shape=True,
        as_module=_dropout_as(function, kind),
    )  # fmt: skip
_register(elementwise.INERT, "inert", rules.keep, reach=reach.first_input)
_register([nn.LocalResponseNorm, nn.CrossMapLRN2d, F.local_response_norm], "inert", rules.keep)
_register([F.normalize], "inert", rules.keep, reach=reach.along_dimension(2, 1))
_register(elementwise.SUMS, "combine", _combine, reach=reach.pointwise, combines="sum")
_register(elementwise.PRODUCTS, "combine", _combine, reach=reach.pointwise, combines="product")
_register(elementwise.ARITHMETIC, "combine", _combine, reach=reach.pointwise)
_register(elementwise.OF_SEVERAL_TENSORS, "combine", rules.same, reach=reach.pointwise)
_register(elementwise.OF_ONE_TENSOR, "inert", rules.keep, reach=reach.first_input)
_register([torch.where], "combine", products.choice, reach=reach.pointwise)
_register([torch.broadcast_tensors], "combine", rules.each_the_same)
_register(
    [torch.roll, torch.flip, torch.fliplr, torch.flipud, torch.cumsum, torch.cumprod,
     torch.logcumsumexp, torch.argsort, torch.renorm, torch.tril, torch.triu],
    "inert", rules.keep, reach=everything,
)  # fmt: skip
_register([torch.cummax, torch.cummin], "inert", reductions.in_order, reach=everything)
_register([torch.gradient], "combine", picking.gradients, reach=everything)
_register([torch.bucketize], "inert", rules.keep, reach=reach.first_input)
_register([torch.searchsorted], "inert", picking.compared, reach=everything)
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
_register([nn.Bilinear, F.bilinear], "linear", products.bilinear, None, resizing.resize_bilinear)
_register([nn.Embedding, F.embedding], "linear", rules.embedding, None, resizing.resize_embedding)

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
    [F.lp_pool1d, F.lp_pool2d, F.lp_pool3d],
    "pool", rules.pool, windows.power_pool_window, reach=reach.average_pooling,
    without_stride=resizing.power_pool_without_stride,
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
_register([torch.mean], "collapse", reductions.reducing(), gathers="mean")
_register([torch.sum, torch.nansum], "collapse", reductions.reducing(), gathers="sum")
_register([torch.amax], "collapse", reductions.reducing(), gathers="max")
_register([torch.amin], "collapse", reductions.reducing(), gathers="min")
_register(
    [torch.prod, torch.logsumexp, torch.special.logsumexp, torch.nanmean, torch.median,
     torch.nanmedian, torch.mode, torch.any, torch.all, torch.argmax, torch.argmin, torch.aminmax,
     torch.count_nonzero],
    "collapse", reductions.reducing(),
)  # fmt: skip
_register(
    [torch.var, torch.std, torch.var_mean, torch.std_mean],
    "collapse", reductions.reducing(keepdim=3),
)  # fmt: skip
_register(
    [torch.norm, "norm", torch.linalg.norm, torch.linalg.vector_norm, torch.kthvalue, torch.quantile,
     torch.nanquantile],
    "collapse", reductions.reducing(dim=2, keepdim=3),
)  # fmt: skip
_register([torch.max, torch.min], "collapse", reductions.extreme)
_register([torch.topk], "combine", reductions.largest, reach=reach.along_dimension(2, -1))
_register([torch.sort], "combine", reductions.in_order, reach=reach.along_dimension(1, -1))
_register(
    [op.matmul, torch.matmul, torch.linalg.matmul, torch.mm, torch.bmm],
    "linear", products.matmul, reach=everything,
)  # fmt: skip
_register([torch.addmm, torch.baddbmm], "linear", products.matmul_and_sum, reach=everything)
_register([torch.tensordot], "linear", matrices.contracted, reach=everything)
_register([torch.outer, torch.ger], "combine", matrices.table_of_pairs, reach=everything)
_register([torch.meshgrid], "combine", matrices.grids, reach=everything)
_register([torch.diagonal], "combine", matrices.diagonal(0, 1), reach=everything)
_register([torch.linalg.diagonal], "combine", matrices.diagonal(-2, -1), reach=everything)
_register(
    [torch.inverse, torch.linalg.inv, torch.linalg.pinv, torch.cholesky, torch.linalg.cholesky,
     torch.matrix_exp, torch.linalg.matrix_exp, torch.matrix_power, torch.linalg.matrix_power],
    "combine", matrices.of_squares, reach=everything,
)  # fmt: skip
_register(
    [torch.det, torch.linalg.det, torch.logdet, torch.slogdet, torch.linalg.slogdet],
    "combine", matrices.numbers_of_squares, reach=everything,
)  # fmt: skip
_register(
    [torch.linalg.eigh, torch.linalg.eigvalsh, torch.linalg.svdvals],
    "combine", matrices.eigenvalues, reach=everything,
)  # fmt: skip
_register([torch.linalg.matrix_norm], "collapse", matrices.matrix_norm, reach=everything)
_register([torch.cdist], "linear", products.distances, reach=everything)
_register(
    [nn.CosineSimilarity, F.cosine_similarity], "linear", products.similarity, reach=everything
)
_register([nn.PairwiseDistance, F.pairwise_distance], "linear", products.pairwise, reach=everything)
_register([torch.einsum], "linear", products.einsum, reach=everything)
_register([F.scaled_dot_product_attention], "combine", products.attention, reach=everything)
_register(
    [nn.MultiheadAttention],
    "linear", products.multihead, None, resizing.resize_attention, reach=everything,
)  # fmt: skip
_register(
    [nn.RNNBase], "linear", recurrent.recurrent, None, recurrent.resize_recurrent, reach=everything
)
_register([torch.unbind], "combine", reductions.unbind, reach=everything)
_register([torch.gather], "combine", picking.gather, reach=everything)
_register([torch.take_along_dim], "combine", picking.take_along, reach=everything)
_register(
    [torch.scatter, torch.scatter_add, torch.scatter_reduce],
    "combine", picking.scatter, reach=everything,
)  # fmt: skip
_register(
    [torch.index_add, torch.index_copy, torch.index_fill, torch.index_reduce],
    "combine", picking.put, reach=everything,
)  # fmt: skip
_register([torch.index_select], "combine", picking.index_select, reach=everything)
_register([torch.diff], "combine", picking.differences, reach=everything)

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
    [nn.Flatten, nn.Unflatten, torch.flatten, torch.ravel, torch.unflatten, torch.reshape, "view"],
    "inert", reshaping.reshape, reach=reach.rearranged,
)  # fmt: skip
_register([nn.Unfold, F.unfold], "inert", reshaping.unfold, reach=everything)
_register([nn.Fold, F.fold], "inert", reshaping.fold, reach=everything)
_register(["unfold"], "inert", reshaping.windows_along, reach=everything)
_register([torch.rot90], "inert", reshaping.rotated, reach=everything)
_register(["reshape_as", "view_as"], "inert", reshaping.reshape_as, reach=reach.rearranged)
_register([torch.permute, "torchvision.ops.misc.Permute"], "inert", reshaping.permute)
_register([torch.transpose, torch.swapaxes, torch.swapdims], "inert", reshaping.transpose)
_register([torch.t], "inert", reshaping.turned)
_register([torch.movedim, torch.moveaxis], "inert", reshaping.moved)
_register([torch.atleast_1d, torch.atleast_2d, torch.atleast_3d], "inert", rules.keep)
_register([torch.squeeze], "inert", reshaping.squeeze)
_register([torch.unsqueeze], "inert", reshaping.unsqueeze)
_register(
    ["expand", "expand_as", torch.broadcast_to], "inert", making.expand, reach=reach.first_input
)
_register([torch.tile, "repeat"], "inert", making.repeat, reach=everything)
_register([torch.repeat_interleave], "inert", making.repeat_interleave, reach=everything)
_register(
    [torch.zeros, torch.ones, torch.full, torch.empty, torch.rand, torch.randn],
    "inert",
    making.made,
)
_register(["new_zeros", "new_ones", "new_empty", "new_full"], "inert", making.made_like)
_register([torch.randint, torch.normal], "inert", making.drawn)
_register([F.one_hot], "combine", making.one_hot, reach=everything)
_register(
    [torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor, "new_tensor"],
    "inert", making.listed,
)  # fmt: skip
_register([F.affine_grid], "combine", making.affine_grid, reach=everything)
_register([F.grid_sample], "resample", making.grid_sample, reach=everything)
_register([torch.eye], "inert", making.eye)
_register([torch.arange, torch.randperm], "inert", making.counted)
_register([torch.linspace, torch.logspace], "inert", making.divided)
_register([torch.stack], "combine", reshaping.stack)
_register([torch.chunk], "combine", parting.chunk, channels="part")
_register([torch.tensor_split], "combine", parting.tensor_split, channels="part")
_register([torch.split, "split_with_sizes"], "combine", parting.split, channels="part")
_register(
    [torch.fft.fft, torch.fft.ifft, torch.fft.rfft, torch.fft.irfft, torch.fft.fft2,
     torch.fft.ifft2, torch.fft.rfft2, torch.fft.irfft2, torch.fft.fftn, torch.fft.ifftn,
     torch.fft.rfftn, torch.fft.irfftn],
    "combine", spectra.transformed, reach=everything,
)  # fmt: skip
_register([torch.fft.fftshift, torch.fft.ifftshift], "inert", rules.keep, reach=everything)
_register([torch.view_as_real], "inert", spectra.as_pairs, reach=everything)
_register([torch.view_as_complex], "inert", spectra.of_pairs, reach=everything)

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
