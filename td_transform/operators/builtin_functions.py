"""The functions of tensors known from the start: arithmetic, reductions, products, what picks, rearranges
and makes values."""

from __future__ import annotations

import operator as op
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from td_transform.operators import (
    elementwise,
    indexing,
    making,
    matrices,
    mutation,
    parting,
    patches,
    picking,
    products,
    reach,
    reductions,
    reshaping,
    rules,
    spectra,
)
from td_transform.operators.builtin import register_all
from td_transform.operators.opaque import everything
from td_transform.operators.registry import Call


def _combine(call: Call) -> Any:
    """Arithmetic on tensors or on sizes."""
    return rules.same(call) if call.tensors else indexing.arithmetic(call)


register_all(elementwise.SUMS, "combine", _combine, reach=reach.pointwise, combines="sum")
register_all(elementwise.PRODUCTS, "combine", _combine, reach=reach.pointwise, combines="product")
register_all(elementwise.ARITHMETIC, "combine", _combine, reach=reach.pointwise)
register_all(elementwise.OF_SEVERAL_TENSORS, "combine", rules.same, reach=reach.pointwise)
register_all(elementwise.OF_ONE_TENSOR, "inert", rules.keep, reach=reach.first_input)
register_all([torch.where], "combine", products.choice, reach=reach.pointwise)
register_all([torch.broadcast_tensors], "combine", rules.each_the_same)
register_all(
    [torch.roll, torch.flip, torch.fliplr, torch.flipud, torch.cumsum, torch.cumprod,
     torch.logcumsumexp, torch.argsort, torch.renorm, torch.tril, torch.triu],
    "inert", rules.keep, reach=everything,
)  # fmt: skip
register_all([torch.cummax, torch.cummin], "inert", reductions.in_order, reach=everything)
register_all([torch.gradient], "combine", picking.gradients, reach=everything)
register_all([torch.bucketize], "inert", rules.keep, reach=reach.first_input)
register_all([torch.searchsorted], "inert", picking.compared, reach=everything)
register_all([torch.cat, torch.concat, torch.concatenate], "combine", rules.concat, channels="join")

register_all([torch.mean], "collapse", reductions.reducing(), gathers="mean")
register_all([torch.sum, torch.nansum], "collapse", reductions.reducing(), gathers="sum")
register_all([torch.amax], "collapse", reductions.reducing(), gathers="max")
register_all([torch.amin], "collapse", reductions.reducing(), gathers="min")
register_all(
    [torch.prod, torch.logsumexp, torch.special.logsumexp, torch.nanmean, torch.median,
     torch.nanmedian, torch.mode, torch.any, torch.all, torch.argmax, torch.argmin, torch.aminmax,
     torch.count_nonzero],
    "collapse", reductions.reducing(),
)  # fmt: skip
register_all(
    [torch.var, torch.std, torch.var_mean, torch.std_mean],
    "collapse", reductions.reducing(keepdim=3),
)  # fmt: skip
register_all(
    [torch.norm, "norm", torch.linalg.norm, torch.linalg.vector_norm, torch.kthvalue, torch.quantile,
     torch.nanquantile],
    "collapse", reductions.reducing(dim=2, keepdim=3),
)  # fmt: skip
register_all([torch.max, torch.min], "collapse", reductions.extreme)
register_all([torch.topk], "combine", reductions.largest, reach=reach.along_dimension(2, -1))
register_all([torch.sort], "combine", reductions.in_order, reach=reach.along_dimension(1, -1))
register_all(
    [op.matmul, torch.matmul, torch.linalg.matmul, torch.mm, torch.bmm],
    "linear", products.matmul, reach=everything,
)  # fmt: skip
register_all([torch.addmm, torch.baddbmm], "linear", products.matmul_and_sum, reach=everything)
register_all([torch.tensordot], "linear", matrices.contracted, reach=everything)
register_all([torch.outer, torch.ger], "combine", matrices.table_of_pairs, reach=everything)
register_all([torch.meshgrid], "combine", matrices.grids, reach=everything)
register_all([torch.diagonal], "combine", matrices.diagonal(0, 1), reach=everything)
register_all([torch.linalg.diagonal], "combine", matrices.diagonal(-2, -1), reach=everything)
register_all(
    [torch.inverse, torch.linalg.inv, torch.linalg.pinv, torch.cholesky, torch.linalg.cholesky,
     torch.matrix_exp, torch.linalg.matrix_exp, torch.matrix_power, torch.linalg.matrix_power],
    "combine", matrices.of_squares, reach=everything,
)  # fmt: skip
register_all(
    [torch.det, torch.linalg.det, torch.logdet, torch.slogdet, torch.linalg.slogdet],
    "combine", matrices.numbers_of_squares, reach=everything,
)  # fmt: skip
register_all(
    [torch.linalg.eigh, torch.linalg.eigvalsh, torch.linalg.svdvals],
    "combine", matrices.eigenvalues, reach=everything,
)  # fmt: skip
register_all(
    [torch.linalg.matrix_norm],
    "collapse", reductions.reducing(dim=2, keepdim=3, over=(-2, -1)), reach=everything,
)  # fmt: skip
register_all([torch.cdist], "linear", products.distances, reach=everything)
register_all(
    [nn.CosineSimilarity, F.cosine_similarity], "linear", products.similarity, reach=everything
)
register_all(
    [nn.PairwiseDistance, F.pairwise_distance], "linear", products.pairwise, reach=everything
)
register_all([torch.einsum], "linear", products.einsum, reach=everything)
register_all([F.scaled_dot_product_attention], "combine", products.attention, reach=everything)
register_all([torch.unbind], "combine", reductions.unbind, reach=everything)
register_all([torch.gather], "combine", picking.gather, reach=everything)
register_all([torch.take_along_dim], "combine", picking.take_along, reach=everything)
register_all(
    [torch.scatter, torch.scatter_add, torch.scatter_reduce],
    "combine", picking.scatter, reach=everything,
)  # fmt: skip
register_all(
    [torch.index_add, torch.index_copy, torch.index_fill, torch.index_reduce],
    "combine", picking.put, reach=everything,
)  # fmt: skip
register_all([torch.index_select], "combine", picking.index_select, reach=everything)
register_all([torch.diff], "combine", picking.differences, reach=everything)

register_all(
    [nn.Flatten, nn.Unflatten, torch.flatten, torch.ravel, torch.unflatten, torch.reshape, "view"],
    "inert", reshaping.reshape, reach=reach.rearranged,
)  # fmt: skip
register_all([nn.Unfold, F.unfold], "inert", patches.unfold, reach=everything)
register_all([nn.Fold, F.fold], "inert", patches.fold, reach=everything)
register_all(["unfold"], "inert", patches.windows_along, reach=everything)
register_all([torch.rot90], "inert", reshaping.rotated, reach=everything)
register_all(["reshape_as", "view_as"], "inert", reshaping.reshape_as, reach=reach.rearranged)
register_all([torch.permute, "torchvision.ops.misc.Permute"], "inert", reshaping.permute)
register_all([torch.transpose, torch.swapaxes, torch.swapdims], "inert", reshaping.transpose)
register_all([torch.t], "inert", reshaping.turned)
register_all([torch.movedim, torch.moveaxis], "inert", reshaping.moved)
register_all([torch.atleast_1d, torch.atleast_2d, torch.atleast_3d], "inert", rules.keep)
register_all([torch.squeeze], "inert", reshaping.squeeze)
register_all([torch.unsqueeze], "inert", reshaping.unsqueeze)
register_all(
    ["expand", "expand_as", torch.broadcast_to], "inert", making.expand, reach=reach.first_input
)
register_all([torch.tile, "repeat"], "inert", making.repeat, reach=everything)
register_all([torch.repeat_interleave], "inert", making.repeat_interleave, reach=everything)
register_all(
    [torch.zeros, torch.ones, torch.full, torch.empty, torch.rand, torch.randn],
    "inert",
    making.made,
)
register_all(["new_zeros", "new_ones", "new_empty", "new_full"], "inert", making.made_like)
register_all([torch.randint, torch.normal], "inert", making.drawn)
register_all([F.one_hot], "combine", making.one_hot, reach=everything)
register_all(
    [torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor, "new_tensor"],
    "inert", making.listed,
)  # fmt: skip
register_all([F.affine_grid], "combine", making.affine_grid, reach=everything)
register_all([F.grid_sample], "resample", making.grid_sample, reach=everything)
register_all([torch.eye], "inert", making.eye)
register_all([torch.arange, torch.randperm], "inert", making.counted)
register_all([torch.linspace, torch.logspace], "inert", making.divided)
register_all([torch.stack], "combine", reshaping.stack)
register_all([torch.chunk], "combine", parting.chunk, channels="part")
register_all([torch.tensor_split], "combine", parting.tensor_split, channels="part")
register_all([torch.split, "split_with_sizes"], "combine", parting.split, channels="part")
register_all(
    [torch.fft.fft, torch.fft.ifft, torch.fft.rfft, torch.fft.irfft, torch.fft.fft2,
     torch.fft.ifft2, torch.fft.rfft2, torch.fft.irfft2, torch.fft.fftn, torch.fft.ifftn,
     torch.fft.rfftn, torch.fft.irfftn],
    "combine", spectra.transformed, reach=everything,
)  # fmt: skip
register_all([torch.fft.fftshift, torch.fft.ifftshift], "inert", rules.keep, reach=everything)
register_all([torch.view_as_real], "inert", spectra.as_pairs, reach=everything)
register_all([torch.view_as_complex], "inert", spectra.of_pairs, reach=everything)

register_all([mutation.assigned], "combine", indexing.assigned, reach=everything)
register_all([mutation.after], "inert", rules.keep, reach=reach.first_input)
register_all(["size"], "index", indexing.size)
register_all([getattr], "index", indexing.attribute)
register_all(
    [op.getitem],
    "combine",
    indexing.getitem,
    reach=reach.indexed,
    channels="index",
)
