"""What a copied layer looks like with other widths, and without its stride."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from td_transform.layers.dimensions import DIMENSIONS, PADDING_LAYERS, per_axis
from td_transform.operators.registry import Arguments, Call

Sizes = Mapping[str, int]


def nearest_divisor(wanted: int, *widths: int) -> int:
    """The number of groups nearest to the wanted one (by ratio) that divides all widths."""
    common = [g for g in range(1, min(widths) + 1) if not any(w % g for w in widths)]
    return min(common, key=lambda g: max(g / wanted, wanted / g))


def _regrouped(module: Any, sizes: Sizes) -> tuple[int, int]:
    """The new channels in and out, in as many groups as divide both; depthwise stays depthwise."""
    groups, (new_in, new_out) = module.groups, (sizes["in"], sizes["out"])
    if groups > 1:
        is_depthwise = groups == module.in_channels
        module.groups = new_in if is_depthwise else nearest_divisor(groups, new_in, new_out)
    return new_in, new_out


def resize_conv(module: Any, sizes: Sizes) -> None:
    new_in, new_out = _regrouped(module, sizes)
    transposed = getattr(module, "transposed", False)
    first, second = (new_in, new_out) if transposed else (new_out, new_in)
    weight = (first, second // module.groups, *module.kernel_size)
    for name, tensor in _tensors(module):
        if name not in ("weight", "bias"):
            set_parameter(module, name, _resized_beside(module, tensor.shape, weight, new_out))
    module.in_channels, module.out_channels = new_in, new_out
    set_parameter(module, "weight", weight)
    if module.bias is not None:
        set_parameter(module, "bias", (new_out,))


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """A layer's parameters, buffers and plain attributes."""
    named = [*module._parameters.items(), *module._buffers.items(), *vars(module).items()]
    return [(name, tensor) for name, tensor in named if isinstance(tensor, torch.Tensor)]


def _resized_beside(
    module: Any, shape: Sequence[int], weight: tuple[int, ...], new_out: int
) -> tuple[int, ...]:
    """The new shape of a tensor beside a convolution's weight: along the same axes where it has as
    many (a mask), else wherever it is as long as the layer is wide."""
    if len(shape) == len(weight):
        axes = zip(shape, module.weight.shape, weight, strict=True)
        return tuple(new if size == old else size for size, old, new in axes)
    return tuple(new_out if size == module.out_channels else size for size in shape)


def resize_conditional_conv(module: Any, sizes: Sizes) -> None:
    """Every expert's kernel is a row, which the forward makes `weight_shape`."""
    new_in, new_out = _regrouped(module, sizes)
    module.in_channels, module.out_channels = new_in, new_out
    module.weight_shape = (new_out, new_in // module.groups, *module.kernel_size)
    set_parameter(module, "weight", (module.num_experts, math.prod(module.weight_shape)))
    if module.bias is not None:
        module.bias_shape = (new_out,)
        set_parameter(module, "bias", (module.num_experts, new_out))


def resize_linear(module: Any, sizes: Sizes) -> None:
    module.in_features, module.out_features = sizes["in"], sizes["out"]
    set_parameter(module, "weight", (sizes["out"], sizes["in"]))
    if module.bias is not None:
        set_parameter(module, "bias", (sizes["out"],))


def resize_bilinear(module: Any, sizes: Sizes) -> None:
    shape = sizes["out"], sizes["one"], sizes["other"]
    module.out_features, module.in1_features, module.in2_features = shape
    set_parameter(module, "weight", shape)
    if module.bias is not None:
        set_parameter(module, "bias", shape[:1])


def resize_embedding(module: Any, sizes: Sizes) -> None:
    module.embedding_dim = sizes["out"]
    set_parameter(module, "weight", (module.num_embeddings, sizes["out"]))


def resize_vectors(module: Any, sizes: Sizes) -> None:
    """Every parameter and buffer along the channels, which may hold them several times, and the
    attributes that count them."""
    new, old = sizes["channels"], 0
    for attribute in ("num_features", "num_channels", "num_parameters"):
        if hasattr(module, attribute):
            old = getattr(module, attribute)
            setattr(module, attribute, new)
    if hasattr(module, "normalized_shape"):
        shape = module.normalized_shape
        module.normalized_shape = tuple(new if s > 1 or len(shape) == 1 else 1 for s in shape)
    for attribute in ("num_groups", "groups"):
        if hasattr(module, attribute):
            setattr(module, attribute, nearest_divisor(getattr(module, attribute), new))

    def resized(shape: torch.Size) -> tuple[int, ...]:
        return tuple(
            1 if s == 1 else new * (s // old if old > 1 and s % old == 0 else 1) for s in shape
        )

    widths = {1}
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        if tensor is not None and tensor.dim():
            widths.update(tensor.shape)
            set_parameter(module, name, resized(tensor.shape))
    for name, tensor in list(vars(module).items()):  # running statistics that are no buffers
        if isinstance(tensor, torch.Tensor) and tensor.dim() and widths.issuperset(tensor.shape):
            set_parameter(module, name, resized(tensor.shape))


def resize_attention(module: Any, sizes: Sizes) -> None:
    """`nn.MultiheadAttention` with as many heads."""
    old, new = module.embed_dim, sizes["channels"]
    module.embed_dim = module.kdim = module.vdim = new
    module.head_dim = new // module.num_heads
    for name, tensor in module._parameters.items():
        if tensor is not None:
            set_parameter(module, name, tuple(size * new // old for size in tensor.shape))
    resize_linear(module.out_proj, {"in": new, "out": new})


def set_parameter(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Give a parameter, buffer or other tensor of a module another shape; its values are made later."""
    old = getattr(module, name)
    if tuple(old.shape) == shape:
        return
    new = torch.empty(shape, dtype=old.dtype, device=old.device)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)


def set_kernel(module: Any, kernel: tuple[int, ...]) -> None:
    """Another kernel size for a convolution, and for what is as large as its weight (an identity, a
    mask); its padding is set by `preserve_size`."""
    module.kernel_size = kernel
    old = module.weight.shape
    for name, tensor in _tensors(module):
        if tensor.shape == old:
            set_parameter(module, name, (*old[:2], *kernel))


def preserve_size(module: Any) -> Any:
    """A copied convolution or pooling, made to run at stride 1 with an output as large as its input."""
    axes = _axes_of(module)
    kernel = per_axis(module.kernel_size, axes)
    dilation = per_axis(getattr(module, "dilation", 1), axes)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    even = all(span % 2 == 0 for span in spans)
    half = tuple(span // 2 for span in spans)
    if isinstance(module, nn.modules.conv._ConvNd):
        module.stride = (1,) * axes
        module.padding = half if even else "same"
        _without_padding_layers(module)
        # the order that F.pad takes: last dimension first, before and after
        module._reversed_padding_repeated_twice = [
            side for span in reversed(spans) for side in (span // 2, span - span // 2)
        ]
        known = DIMENSIONS[axes].conv.forward
        if type(module).forward is not known and not _keeps_size(module):
            module.padding = (0,) * axes  # its forward pads by itself
        return module
    if even and hasattr(module, "out_channels"):  # a convolution of another kind
        module.stride, module.padding = (1,) * axes, half
        return module
    module.stride, module.ceil_mode = 1, False
    if even and all(2 * h <= k for h, k in zip(half, kernel, strict=True)):
        module.padding = half
        return module
    module.padding = 0
    sides = [
        side
        for span, h in zip(reversed(spans), reversed(half), strict=True)
        for side in (h, span - h)
    ]
    return nn.Sequential(DIMENSIONS[axes].replication_pad(tuple(sides)), module)


def _without_padding_layers(conv: nn.Module) -> None:
    """Padding layers that a convolution holds were measured for the stride that it loses."""
    for name, child in conv.named_children():
        if isinstance(child, PADDING_LAYERS):
            setattr(conv, name, nn.Identity())


def _axes_of(module: nn.Module) -> int:
    """How many axes a layer slides over."""
    for axes, kinds in DIMENSIONS.items():
        if isinstance(
            module, (kinds.conv, kinds.transposed_conv, kinds.max_pool, kinds.average_pool)
        ):
            return axes
    return 2


def conv_without_stride(call: Call) -> Arguments:
    return {("stride", 3): 1, ("padding", 4): "same"}


def max_pool_without_stride(call: Call) -> nn.Module:
    kind: Any = DIMENSIONS[call.axes].max_pool
    kernel, dilation = call.number("kernel_size", 1), call.number("dilation", 4, 1)
    pool: nn.Module = preserve_size(kind(kernel, dilation=dilation))
    return pool


def average_pool_without_stride(call: Call) -> nn.Module:
    kind: Any = DIMENSIONS[call.axes].average_pool
    counts = bool(call.option("count_include_pad", 5, True))
    pool: nn.Module = preserve_size(kind(call.number("kernel_size", 1), count_include_pad=counts))
    return pool


def power_pool_without_stride(call: Call) -> nn.Module:
    kind: Any = DIMENSIONS[call.axes].power_pool
    pool: nn.Module = preserve_size(
        kind(call.option("norm_type", 1), call.number("kernel_size", 2))
    )
    return pool


def _keeps_size(conv: Any) -> bool:
    """Does a convolution on the meta device give a map as large as its input?"""
    axes = len(conv.kernel_size)
    size = (4 * max(conv.kernel_size) * max(conv.dilation),) * axes
    image = torch.empty(1, conv.in_channels, *size, device="meta", dtype=conv.weight.dtype)
    try:
        with torch.no_grad():
            return tuple(conv(image).shape[2:]) == size
    except Exception:  # its forward computes with the padding, which may be a word now
        return False
