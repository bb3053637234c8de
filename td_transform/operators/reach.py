"""Rules for receptive fields: what an operator's output positions read of its input map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import nn

from td_transform.layers.dimensions import per_axis
from td_transform.operators.dimensions import FLAT, Spatial, TensorInfo, Window
from td_transform.operators.indexing import spelt_out
from td_transform.operators.registry import Call
from td_transform.operators.widths import Conflict
from td_transform.operators.windows import transposed_padding
from td_transform.taps import POINT, Boundary, Plane, Reach, Taps

_PADDING: dict[str, Boundary] = {
    "zeros": "drop", "constant": "drop", "reflect": "reflect", "replicate": "clamp",
    "circular": "circular",
}  # fmt: skip
_LINEAR = ("linear", "bilinear", "trilinear")
_MODES = ("nearest", "nearest-exact", *_LINEAR, "bicubic", "area")


def pointwise(call: Call) -> Reach:
    """Every output reads its own position of its own channel."""
    return Reach(mixes=False)


def convolution(call: Call) -> Reach:
    """A convolution, as its window says.

    Raises:
        Conflict: the output is not of the size that the window gives.
    """
    return Reach(_sliding(call, ceil_mode=False), mixes=not _is_channelwise(call))


def max_pooling(call: Call) -> Reach:
    return Reach(_sliding(call, ceil_mode=call.option("ceil_mode", 5, False)), mixes=False)


def average_pooling(call: Call) -> Reach:
    return Reach(_sliding(call, ceil_mode=call.option("ceil_mode", 4, False)), mixes=False)


def _is_channelwise(call: Call) -> bool:
    return call.is_depthwise and call.values[call.node].shape[1] == call.shape()[1]


def _plane(call: Call, taps_along: Callable[[int], Taps]) -> Plane:
    """The taps of every axis; one that is pooled already has no positions to read."""
    axes = range(call.axes)
    return tuple(taps_along(axis) if _size(call, axis) else POINT for axis in axes)


def _sliding(call: Call, *, ceil_mode: bool) -> Plane:
    window, boundary = call.window(), _PADDING[call.option("padding_mode", 9, "zeros")]
    if not window.is_pointwise and any(_is_flat(dim) for dim in call.dims()):
        raise Conflict("a window that slides over a flattened map")

    def along(axis: int) -> Taps:
        kernel, stride, dilation = _steps(window, axis)
        before, after = window.padding[axis]
        room = _size(call, axis) + before + after - dilation * (kernel - 1) - 1
        expected = {room // stride + 1, -(-room // stride) + 1 if ceil_mode else 0}
        if (found := _size(call, axis, after=True)) not in expected:
            raise Conflict(f"{found} positions where the window gives {room // stride + 1}")
        return Taps.window(kernel, stride, dilation=dilation, padding=before, boundary=boundary)

    return _plane(call, along)


def _steps(window: Window, axis: int) -> tuple[int, int, int]:
    return window.kernel[axis], int(window.stride[axis]), window.dilation[axis]


def same_padded(call: Call) -> Reach:
    """A window with TensorFlow's 'same' padding, which depends on the size of the map."""
    window = call.window()

    def along(axis: int) -> Taps:
        kernel, stride, dilation = _steps(window, axis)
        size = _size(call, axis)
        padding = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        return Taps.window(kernel, stride, dilation=dilation, padding=padding // 2)

    is_conv = isinstance(call.module, nn.modules.conv._ConvNd)
    sized = any(step > 1 for step in window.stride)
    return Reach(_plane(call, along), mixes=is_conv and not _is_channelwise(call), sized=sized)


def conditional(call: Call) -> Reach:
    """A convolution whose kernel is computed from a vector, which every channel reads."""
    is_same = call.option("dynamic_padding", 9, False)
    return replace(same_padded(call) if is_same else convolution(call), mixes=True)


def transposed(call: Call) -> Reach:
    """A transposed convolution: an output position reads the inputs whose windows reach it."""
    window = call.window()
    padding = transposed_padding(call)
    return Reach(
        tuple(
            Taps.transposed(kernel, int(1 / step), dilation=dilation, padding=before)
            for kernel, step, dilation, before in zip(
                window.kernel, window.stride, window.dilation, padding, strict=True
            )
        )
    )


def adaptive(call: Call) -> Reach:
    """Adaptive pooling: windows that share the map out evenly."""
    return Reach(_plane(call, lambda axis: _shared_out(call, axis)), mixes=False, sized=True)


def _shared_out(call: Call, axis: int) -> Taps:
    return Taps.adaptive(_size(call, axis), _size(call, axis, after=True))


def resize(call: Call) -> Reach:
    """Interpolation, with the arguments of `F.interpolate`.

    Raises:
        Conflict: the mode has no rule.
    """
    mode = call.option("mode", 3, "nearest")
    corners = bool(call.option("align_corners", 4, False))
    antialias = bool(call.option("antialias", 6, False))
    reach = 2 if mode == "bicubic" else 1
    if mode not in _MODES:
        raise Conflict(f"the interpolation mode {mode!r}")

    def along(axis: int) -> Taps:
        if mode == "area":
            return _shared_out(call, axis)
        ratio = _ratio(call, axis, corners=corners)
        if mode in ("nearest", "nearest-exact"):
            return Taps.nearest(ratio, centred=mode == "nearest-exact")
        if antialias:
            return Taps.antialiased(ratio, reach=reach)
        return Taps.linear(ratio, reach=reach, corners=corners)

    sized = corners or mode == "area" or call.number("scale_factor", 2) is None
    return Reach(_plane(call, along), mixes=False, sources=1, sized=sized)


def _ratio(call: Call, axis: int, *, corners: bool) -> Fraction:
    """Input positions per output position, as torch takes it: a given factor goes before sizes."""
    before, after = _size(call, axis), _size(call, axis, after=True)
    if corners:
        return Fraction(before - 1, max(after - 1, 1))
    factor = call.number("scale_factor", 2)
    if factor is None or call.option("recompute_scale_factor", 5):
        return Fraction(before, after)
    factor = factor[axis] if isinstance(factor, (tuple, list)) else factor
    return 1 / Fraction(factor).limit_denominator(1000)


def padded(call: Call) -> Reach:
    """Padding layers and `F.pad`; a negative amount cuts."""
    mode = call.option("mode", 2, "constant") if call.module is None else _module_mode(call.module)
    amounts = call.number("padding" if call.module is not None else "pad", 1)
    amounts = per_axis(amounts, 2 * call.axes)
    dims = call.dims()
    before = {
        dim.axis: amounts[2 * back]
        for back, dim in enumerate(reversed(dims))
        if isinstance(dim, Spatial) and 2 * back < len(amounts)
    }
    taps = (Taps(((-before.get(axis, 0),),), 1, _PADDING[mode]) for axis in range(call.axes))
    return Reach(tuple(taps), mixes=len(amounts) > 2 * call.axes)


def _module_mode(module: nn.Module) -> str:
    kinds = {
        nn.modules.padding._ReflectionPadNd: "reflect",
        nn.modules.padding._ReplicationPadNd: "replicate",
        nn.modules.padding._CircularPadNd: "circular",
    }
    return next((mode for kind, mode in kinds.items() if isinstance(module, kind)), "constant")


def indexed(call: Call) -> Reach:
    """Slices of a map, with or without a step; an integer keeps that one position."""
    taps, sized = [POINT] * call.axes, False
    if not isinstance(call.values.get(call.input), TensorInfo):
        return Reach(mixes=False)
    for dim, size, item in index_items(call):
        if not isinstance(dim, Spatial) or item == slice(None):
            continue
        if dim.axis == FLAT:
            raise Conflict("an index into a flattened map")
        if isinstance(item, slice):
            start, _, step = item.indices(size)
            sized = sized or item.stop is not None or start > 0
        else:
            start, step, sized = int(item) % size, 1, True
        taps[dim.axis] = Taps(((start,),), step)
    same_rank = len(call.shape()) == len(call.values[call.node].shape)
    return Reach(tuple(taps), mixes=not same_rank, sized=sized)


def index_items(call: Call) -> list[tuple[Any, int, Any]]:
    """Per dimension of the input: the dimension, its size, and what it is indexed with."""
    dims, shape = call.dims(), call.shape()
    items = spelt_out(call.number("", 1), len(shape))
    present = [item for item in items if item is not None]
    present += [slice(None)] * (len(shape) - len(present))
    return list(zip(dims, shape, present, strict=True))


def rearranged(call: Call) -> Reach:
    """Pixel shuffles, view, reshape: blocks of positions go to the channels, or come from there."""
    taps = tuple(_rescaled(call, axis) for axis in range(call.axes))
    return Reach(taps, sized=_names_sizes(call))


def _names_sizes(call: Call) -> bool:
    """Are the sizes of the map written into a reshape as numbers?"""
    given = call.node.args[1:]
    shape = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    named = [isinstance(size, int) and size != -1 for size in shape]
    places = zip(named, call.inference.dims[call.node], strict=False)
    return any(is_number and isinstance(dim, Spatial) for is_number, dim in places)


def _rescaled(call: Call, axis: int) -> Taps:
    before, after = _size(call, axis), _size(call, axis, after=True)
    if before == after or not before or not after:
        return POINT
    if before > after:
        return Taps.window(before // after, before // after)
    return Taps.nearest(Fraction(before, after))


def statistics(call: Call) -> Reach:
    """A normalisation by statistics of the map: every position sees all others through them."""
    return Reach(whole=True)


def batch_norm(call: Call) -> Reach:
    """Running statistics see nothing; without them the batch's own see the whole map."""
    return Reach(whole=getattr(call.module, "running_mean", True) is None, mixes=False)


def layer_norm(call: Call) -> Reach:
    """The last dimensions are normalised; a subclass with a forward of its own does the channels."""
    module = call.module
    plain = module is None or type(module).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward)
    shape = call.number("normalized_shape", 1, ())
    last = call.dims()[-len(shape) :] if plain and shape else ()
    return _along(call, last)


def along_dimension(position: int, default: int | None = None) -> Any:
    """Softmax and the like: positions see each other where the dimension is one of the map."""

    def reach(call: Call) -> Reach:
        axis = call.option("dim", position, default)
        if axis is None:
            return Reach()
        return _along(call, (call.dims()[axis],))

    return reach


def _along(call: Call, dims: Any) -> Reach:
    seen = axes_of(dims, call.axes)
    return Reach(whole=tuple(axis in seen for axis in range(call.axes)))


def first_input(call: Call) -> Reach:
    """Reads its first tensor; the others only lend their shape or type."""
    return Reach(mixes=False, sources=1)


def axes_of(dims: Iterable[Any], count: int) -> set[int]:
    """The axes of the map, of which there are so many, among some dimensions."""
    tags = {dim.axis for dim in dims if isinstance(dim, Spatial)}
    return set(range(count)) if FLAT in tags else tags


def _is_flat(dim: Any) -> bool:
    return isinstance(dim, Spatial) and dim.axis == FLAT


def _size(call: Call, axis: int, *, after: bool = False) -> int:
    """Positions along an axis before or after the operator; 0 where there is no such axis."""
    before = _place(call.dims(), axis)
    if not after:
        return 0 if before is None else call.shape()[before]
    shape = call.values[call.node].shape
    place = _place(call.inference.dims[call.node], axis)
    if place is None and len(shape) == len(call.shape()):
        place = before  # an adaptive pooling: the axis lost its stride, not its positions
    return 0 if place is None else int(shape[place])


def _place(dims: Iterable[Any], axis: int) -> int | None:
    tags = [dim.axis if isinstance(dim, Spatial) else None for dim in dims]
    return tags.index(axis) if axis in tags else None
