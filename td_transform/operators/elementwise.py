"""What works position by position, as tables. A function's method (`x.relu()`) has its rules, and so has
what writes into the tensor (`x.relu_()`)."""

from __future__ import annotations

import operator as op

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.RReLU,
    nn.Tanhshrink, nn.Threshold,
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish,
    F.softplus, F.softsign, F.logsigmoid, F.hardtanh, F.hardswish, F.hardsigmoid, F.hardshrink,
    F.softshrink, F.tanhshrink, F.rrelu, F.sigmoid, F.tanh, F.threshold,
    torch.relu, torch.sigmoid, torch.tanh, torch.clamp, torch.clip, torch.clamp_min,
    torch.clamp_max, torch.celu, torch.selu, torch.rrelu, torch.threshold, F.elu_, F.hardtanh_,
    F.leaky_relu_,
]  # fmt: skip
DROPOUTS = [
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    "torchvision.ops.stochastic_depth.StochasticDepth",
    "torchvision.ops.drop_block.DropBlock2d",
    "timm.layers.drop.DropPath", "timm.layers.drop.DropBlock2d",
]  # fmt: skip
FUNCTIONAL_DROPOUTS = {
    F.dropout: nn.Dropout, torch.dropout: nn.Dropout, F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d, F.dropout3d: nn.Dropout3d, F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}  # fmt: skip
SUMS = [op.add, op.iadd, torch.add]
PRODUCTS = [op.mul, op.imul, torch.mul, torch.multiply]
ARITHMETIC = [
    op.sub, op.truediv, op.floordiv, op.mod, op.neg, op.pow, op.isub, op.itruediv, op.ifloordiv,
    torch.sub, torch.subtract, torch.rsub, torch.div, torch.divide, torch.true_divide,
    torch.floor_divide, torch.remainder, torch.fmod, torch.pow, torch.float_power, torch.maximum,
    torch.minimum, torch.fmax, torch.fmin, torch.addcmul, torch.addcdiv, torch.abs, torch.exp,
    torch.sqrt, torch.rsqrt, torch.neg, torch.square,
]  # fmt: skip
OF_SEVERAL_TENSORS = [
    op.gt, op.ge, op.lt, op.le, op.eq, op.ne, op.and_, op.or_, torch.gt, torch.ge, torch.lt,
    torch.le, torch.eq, torch.ne, torch.greater, torch.greater_equal, torch.less, torch.less_equal,
    torch.logical_and, torch.logical_or, torch.logical_xor, torch.lerp, torch.atan2, torch.hypot,
    torch.copysign, torch.xlogy, torch.logaddexp, torch.heaviside, torch.masked_fill, op.xor,
    op.lshift, op.rshift, torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor,
    torch.bitwise_left_shift, torch.bitwise_right_shift, torch.not_equal, torch.isclose,
    torch.arctan2, torch.logaddexp2, torch.ldexp, torch.special.xlogy, torch.special.xlog1py,
    torch.complex, torch.polar,
]  # fmt: skip
OF_ONE_TENSOR = [
    op.invert, op.abs, torch.absolute, torch.negative, torch.positive, torch.sin, torch.cos,
    torch.tan, torch.asin, torch.acos, torch.atan, torch.arctan, torch.sinh, torch.cosh,
    torch.asinh, torch.acosh, torch.atanh, torch.sinc, torch.exp2, torch.expm1, torch.log,
    torch.log1p, torch.log2, torch.log10, torch.logit, torch.erf, torch.erfc, torch.floor,
    torch.ceil, torch.round, torch.trunc, torch.frac, torch.sign, torch.sgn, torch.reciprocal,
    torch.isnan, torch.isinf, torch.isfinite, torch.nan_to_num, torch.logical_not, torch.bernoulli,
    torch.deg2rad, torch.rad2deg,
    torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, torch.rand_like,
    torch.randn_like, torch.special.expit, torch.special.erf, "half", "bfloat16", "double", "bool",
    "long", "type", "requires_grad_", "uniform_", "normal_", "zero_", "fill_",
    torch.arcsin, torch.arccos, torch.arcsinh, torch.arccosh, torch.arctanh, torch.fix, torch.signbit,
    torch.isposinf, torch.isneginf, torch.bitwise_not, torch.digamma, torch.lgamma, torch.erfinv,
    torch.poisson, torch.randint_like, torch.special.erfc, torch.special.erfinv, torch.special.exp2,
    torch.special.expm1, torch.special.log1p, torch.special.logit, torch.special.ndtr,
    torch.special.entr, torch.special.sinc, "byte", "char", "short", "int", "cfloat", "cdouble",
    "exponential_", torch.real, torch.imag, torch.angle, torch.conj, torch.conj_physical,
    torch.resolve_conj,
]  # fmt: skip
INERT = [
    nn.Identity, "contiguous", "to", "float", "type_as", torch.clone, torch.detach,
]  # fmt: skip
