"""Channel rules: the symbolic dimensions of an operator's output, and which widths must agree."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import fx, nn

from td_transform.layers.dimensions import per_axis
from td_transform.layers.parameters import parameters_of
from td_transform.operators.dimensions import FLAT, Dim, Dims, Spatial, Window
from td_transform.operators.registry import Call
from td_transform.operators.widths import Conflict, Variable, Width


def same(call: Call) -> Dims:
    """Element-wise with broadcasting: dimensions agree, counted from the last."""
    tensors = call.tensors
    rank = max(len(call.shape(t)) for t in tensors)
    dims: list[Dim] = []
    for back in range(rank, 0, -1):
        present = [
            (call.dims(t)[-back], call.shape(t)[-back])
            for t in tensors
            if len(call.shape(t)) >= back
        ]
        dims.append(_agree(call, present))
    return tuple(dims)


def _agree(call: Call, present: list[tuple[Dim, int]]) -> Dim:
    wide = (
        [dim for dim, size in present if size != 1]
        or [dim for dim, _ in present if isinstance(dim, Spatial)]
        or [dim for dim, _ in present if isinstance(dim, Width) and dim.terms]
        or [present[0][0]]
    )
    spatial = next((dim for dim in wide if isinstance(dim, Spatial)), None)
    size = max(size for _, size in present)
    chosen = spatial or wide[0]
    for dim, own in present:
        if isinstance(dim, Width) and dim.terms and own == 1 < size:
            call.inference.widths.equate(dim, Width.of(1))
    for dim in wide:
        if isinstance(dim, Width):
            other = chosen if isinstance(chosen, Width) else Width.of(size)
            call.inference.widths.equate(dim, other)
    return chosen


def each_the_same(call: Call) -> tuple[Dims, ...]:
    """broadcast_tensors."""
    return (same(call),) * len(call.values[call.node])


def keep(call: Call) -> Any:
    """The output is shaped like the first input."""
    return call.dims()


def norm(axis: int | None) -> Any:
    """A normalisation over the channels at that axis (None: the axis its parameters fit)."""

    def infer(call: Call) -> Dims:
        dims = call.dims()
        place = _norm_axis(call) if axis is None else axis
        channels = dims[place]
        if isinstance(channels, Width):
            call.size(channels=channels)
        return dims

    return infer


def _norm_axis(call: Call) -> int:
    """The last axis, as torch has it, or the only long one of several; a subclass with a forward of
    its own may do the channels'."""
    module, shape = call.module, call.shape()
    covered = len(call.option("normalized_shape", 1, ()) or ())
    long = [i for i in range(len(shape) - covered, len(shape)) if shape[i] > 1]
    if covered > 1 and len(long) == 1:
        return long[0]
    sizes = [p.numel() for p in parameters_of(module)] if module is not None else []
    forward = getattr(type(module), "forward", None)
    plain = forward in (nn.LayerNorm.forward, nn.RMSNorm.forward)
    first = len(shape) > 2 and not plain and (not sizes or shape[1] in sizes)
    last = call.dims()[-1]
    in_front = first and not (isinstance(last, Width) and last.terms)
    return 1 if in_front else len(shape) - 1


def prelu(call: Call) -> Dims:
    if call.option("num_parameters", 9, 1) > 1:
        call.size(channels=as_width(call.dims()[1]))
    return call.dims()


def prelu_of(call: Call) -> Dims:
    """The function, which is given a slope, or one a channel."""
    dims, slopes = call.dims(), call.option("weight", 1)
    if isinstance(slopes, fx.Node) and call.shape(slopes) not in ((), (1,)):
        call.inference.widths.equate(as_width(call.dims(slopes)[0]), as_width(dims[1]))
    return dims


def conv(call: Call) -> Dims:
    """A convolution sets its width; a depthwise one multiplies the width that it gets."""
    if call.module is None:
        return _functional_conv(call)
    x = as_width(call.dims()[1])
    inputs, outputs = int(call.option("in_channels", 0)), int(call.option("out_channels", 0))
    if call.is_depthwise:
        out = x * Fraction(outputs, inputs)
    else:
        out = call.inference.widths.variable(Variable(call.name, "out"), outputs)
    call.size(**{"in": x, "out": out})
    return (call.dims()[0], out, *slide(call))


def conditional_conv(call: Call) -> Dims:
    """A convolution whose kernel is a mixture of experts', in parts that a vector (N, experts) gives."""
    parts = as_width(call.dims(call.tensors[1])[-1])
    call.inference.widths.equate(parts, Width.of(int(call.option("num_experts", 0))))
    return conv(call)


def _functional_conv(call: Call) -> Dims:
    x, weight = as_width(call.dims()[1]), call.dims(call.option("weight", 1))
    widths = call.inference.widths
    groups = call.number("groups", 6, 1)
    for dim, size in zip(weight[2:], call.shape(call.option("weight", 1))[2:], strict=True):
        widths.equate(as_width(dim), Width.of(size))
    out = as_width(weight[0])
    if call.is_depthwise:
        if isinstance(call.option("groups", 6), int):
            call.literal(("groups",) if "groups" in call.node.kwargs else (6,), x)
        widths.equate(as_width(weight[1]), Width.of(1))
        widths.equate(out, x * Fraction(call.shape(call.option("weight", 1))[0], groups))
    else:
        widths.equate(as_width(weight[1]) * groups, x)
    if isinstance(bias := call.option("bias", 2), fx.Node):
        widths.equate(as_width(call.dims(bias)[0]), out)
    return (call.dims()[0], out, *slide(call))


def transposed_conv(call: Call) -> Dims:
    """As `conv`; as a function its weight is (in, out / groups, rows, columns)."""
    if call.module is not None:
        return conv(call)
    weight = call.dims(call.option("weight", 1))
    call.inference.widths.equate(as_width(weight[0]), as_width(call.dims()[1]))
    out = as_width(weight[1]) * int(call.number("groups", 6, 1))
    return (call.dims()[0], out, *slide(call))


def conv_on_lines(call: Call) -> Dims:
    """A 1-d convolution: over a map of one axis, or along the channels."""
    return call.dims() if is_along_channels(call) else conv(call)


def is_along_channels(call: Call) -> bool:
    """Is it a 1-d convolution over a vector (N, 1, C), as efficient channel attention has it?"""
    shape = call.shape()
    is_vector = len(shape) == 3 and not any(isinstance(dim, Spatial) for dim in call.dims())
    return is_vector and shape[1] == 1 and call.values[call.node].shape == shape


def linear(call: Call) -> Dims:
    *lead, last = call.dims()
    if call.module is None:
        weight = call.dims(call.option("weight", 1))
        call.inference.widths.equate(as_width(weight[1]), as_width(last))
        if isinstance(bias := call.option("bias", 2), fx.Node):
            call.inference.widths.equate(as_width(call.dims(bias)[0]), as_width(weight[0]))
        return (*lead, weight[0])
    out = call.inference.widths.variable(
        Variable(call.name, "out"), int(call.option("out_features", 0))
    )
    call.size(**{"in": as_width(last), "out": out})
    return (*lead, out)


def embedding(call: Call) -> Dims:
    """A table's row for each number."""
    if call.module is None:
        weight = call.option("weight", 1)
        rows, width = call.dims(weight)
        call.inference.widths.equate(as_width(rows), Width.of(call.shape(weight)[0]))
        return (*call.dims(), width)
    features = int(call.option("embedding_dim", 0))
    out = call.inference.widths.variable(Variable(call.name, "out"), features)
    call.size(out=out)
    return (*call.dims(), out)


def slide(call: Call) -> tuple[Dim, ...]:
    """The spatial dimensions after this operator's window."""
    window = call.window()
    steps = zip(call.dims()[2:], window.stride, _swallowed(call, window), strict=True)
    return tuple(d.stepped(whole or s) if isinstance(d, Spatial) else d for d, s, whole in steps)


def _swallowed(call: Call, window: Window) -> tuple[int, ...]:
    """The size of each axis of which a window leaves one position, while others stay (all electrodes
    at a time); 0 for the others."""
    sizes, after = call.shape()[2:], call.values[call.node].shape[2:]
    long = [
        (size, size == kernel and out == 1)
        for size, kernel, out in zip(sizes, window.kernel, after, strict=False)
    ]
    if all(whole for size, whole in long if size > 1):
        return (0,) * len(sizes)
    return tuple(size if whole else 0 for size, whole in long)


def pool(call: Call) -> Dims:
    """A pooling keeps the channels; one whose window is the whole map is a global pooling."""
    dims, shape, window = call.dims(), call.shape(), call.window()
    if covers_map(window, shape):
        return (*dims[:2], *(Width.of(1) for _ in dims[2:]))
    return (*dims[:2], *slide(call))


def covers_map(window: Window, shape: tuple[int, ...]) -> bool:
    """A window of 3 pixels or more along an axis that is the whole map: a 2x2 one halves a small map."""
    unpadded = not any(map(any, window.padding))
    return unpadded and window.kernel == shape[2:] and max(window.kernel) > 2


def adaptive(call: Call) -> Dims:
    """Adaptive pooling: the output size is given, so that the map loses its stride."""
    dims = call.dims()
    sizes = per_axis(call.number("output_size", 1), len(dims) - 2)
    new = [d if s is None else Width.of(s) for d, s in zip(dims[2:], sizes, strict=True)]
    return (*dims[:2], *new)


def concat(call: Call) -> Dims:
    tensors = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    parts = [call.dims(t) for t in tensors]  # type: ignore[union-attr]
    axis = int(call.option("dim", 1, call.option("axis", 1, 0))) % len(parts[0])
    first = parts[0][axis]
    if isinstance(first, Spatial) and first.axis == FLAT:
        return parts[0]
    sizes = [part[axis] for part in parts]
    total: Dim
    if any(isinstance(size, Spatial) for size in sizes):
        shapes = [call.shape(t) for t in tensors]  # type: ignore[union-attr]
        sizes = [
            _as_many(call, size, shape[axis]) for size, shape in zip(sizes, shapes, strict=True)
        ]
        total = _with_tokens(sizes) or Width.of(call.values[call.node].shape[axis])
    else:
        total = sum((as_width(size) for size in sizes), Width())
    return tuple(
        total
        if i == axis
        else _agree(call, [(p[i], 2) for p in parts])
        if any(isinstance(p[i], Width) and p[i].terms for p in parts)  # type: ignore[union-attr]
        else parts[0][i]
        for i in range(len(parts[0]))
    )


def _as_many(call: Call, size: Dim, number: int) -> Dim:
    """What stands beside positions (tokens of a table) is a number, whatever the widths."""
    if not isinstance(size, Width) or not size.terms:
        return size
    call.inference.widths.equate(size, Width.of(number))
    call.inference.tokens.add(size)
    return Width.of(number)


def _with_tokens(sizes: list[Dim]) -> Spatial | None:
    """Tokens of their own (a class token) before the positions of a flattened map."""
    *before, flat = sizes
    if not isinstance(flat, Spatial) or flat.axis != FLAT:
        return None
    if not all(isinstance(size, Width) and not size.terms for size in before):
        return None
    tokens = sum(int(as_width(size).const) for size in before)
    return replace(flat, ahead=flat.ahead + tokens)


def pixel_unshuffle(call: Call) -> Dims:
    r = int(call.option("downscale_factor", 1))
    dims = call.dims()
    return (*dims[:-3], as_width(dims[-3]) * (r * r), *_scale(dims[-2:], Fraction(r)))


def pixel_shuffle(call: Call) -> Dims:
    r = int(call.option("upscale_factor", 1))
    dims = call.dims()
    call.inference.widths.require_multiple(as_width(dims[-3]), r * r)
    return (*dims[:-3], as_width(dims[-3]) * Fraction(1, r * r), *_scale(dims[-2:], Fraction(1, r)))


def channel_shuffle(call: Call) -> Dims:
    call.inference.widths.require_multiple(as_width(call.dims()[1]), int(call.option("groups", 1)))
    return call.dims()


def resize_map(call: Call) -> Dims:
    """Interpolation: the factor is given, or the size, which may be another map's."""
    dims, before, after = call.dims(), call.shape(), call.values[call.node].shape
    size = call.option("size", 1)
    if isinstance(size, fx.Node):
        size = call.inference.dims.get(size)
    elif isinstance(size, (tuple, list)):
        size = tuple(call.inference.dims.get(s) if isinstance(s, fx.Node) else s for s in size)
    if isinstance(size, tuple) and all(isinstance(s, Spatial) for s in size):
        return (*dims[:2], *size)
    scaled = [
        d.stepped(Fraction(b, a)) if isinstance(d, Spatial) else Width.of(a)
        for d, b, a in zip(dims[2:], before[2:], after[2:], strict=True)
    ]
    return (*dims[:2], *scaled)


def pad(call: Call) -> Dims:
    dims = list(call.dims())
    before, after = call.shape(), call.values[call.node].shape
    for i, (b, a) in enumerate(zip(before, after, strict=True)):
        dim = dims[i]
        if isinstance(dim, Width) and a != b:
            dims[i] = dim + Width.of(a - b)
        elif isinstance(dim, Spatial) and dim.axis == FLAT and _pads_ahead(call, i, a - b):
            dims[i] = replace(dim, ahead=dim.ahead + a - b)
    return tuple(dims)


def _pads_ahead(call: Call, dim: int, count: int) -> bool:
    """Does a padding add that many positions before a dimension's first, and none behind its last?"""
    pads = call.option("padding" if call.module is not None else "pad", 1)
    place = 2 * (len(call.shape()) - 1 - dim)
    is_given = isinstance(pads, (tuple, list)) and count > 0
    return is_given and tuple(pads[place : place + 2]) == (count, 0)


def _scale(dims: Dims, factor: Fraction) -> Dims:
    return tuple(d.stepped(factor) if isinstance(d, Spatial) else d for d in dims)


def as_width(dim: Dim) -> Width:
    if isinstance(dim, Spatial):
        raise Conflict("a spatial dimension where channels are needed")
    return dim


def glu(call: Call) -> Dims:
    """One half of the channels gates the other."""
    dims = list(call.dims())
    axis = int(call.option("dim", 1, -1)) % len(dims)
    width = as_width(dims[axis])
    call.inference.widths.require_multiple(width, 2)
    dims[axis] = width * Fraction(1, 2)
    return tuple(dims)
