"""Channel rules of windows that are cut out of a map, and put together to one."""

from __future__ import annotations

import math
from fractions import Fraction

from td_transform.operators.dimensions import FLAT, Dims, Spatial
from td_transform.operators.registry import Call
from td_transform.operators.widths import Conflict, Width


def unfold(call: Call) -> Dims:
    """A window at every step over a map, its pixels beside each other as channels.

    Raises:
        Conflict: the windows are along the channels.
    """
    batch, channels, *axes = call.dims()
    along = tuple(dim for dim in axes if isinstance(dim, Spatial))
    if isinstance(channels, Spatial) or len(along) < len(axes):
        raise Conflict("windows along the channels")
    options = ("kernel_size", 1, None), ("dilation", 2, 1), ("padding", 3, 0), ("stride", 4, 1)
    given = (call.number(*option) for option in options)
    each = [(x,) * len(axes) if isinstance(x, int) else tuple(x) for x in given]
    kernels, _, _, steps = each
    sizes = tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // step + 1
        for size, kernel, dilation, padding, step in zip(call.shape()[2:], *each, strict=True)
    )
    stepped = tuple(dim.stepped(step) for dim, step in zip(along, steps, strict=True))
    return batch, channels * math.prod(kernels), Spatial(FLAT, Fraction(1), stepped, sizes)


def windows_along(call: Call) -> Dims:
    """x.unfold: windows along one axis, whose values stand along a new last dimension.

    Raises:
        Conflict: they stand along something else, or follow a size that the code computes.
    """
    dims, axis = list(call.dims()), int(call.option("dimension", 1))
    size, step = call.option("size", 2), call.option("step", 3)
    dim = dims[axis]
    if not isinstance(dim, Spatial) or dim.axis == FLAT:
        raise Conflict("windows that aren't along an axis of the map")
    if not isinstance(size, int) or not isinstance(step, int):
        raise Conflict("windows of computed sizes")
    dims[axis] = dim.stepped(step)
    return (*dims, Width.of(size))


def fold(call: Call) -> Dims:
    """What `unfold` takes apart, put together to a map that is known by its sizes.

    Raises:
        Conflict: no map of that size was met.
    """
    batch, patches, *_ = call.dims()
    size = call.values[call.node].shape[2:]
    if size not in call.inference.maps or not isinstance(patches, Width):
        raise Conflict("windows put together to a map of another size")
    kernel = call.option("kernel_size", 2)
    count = math.prod((kernel,) * len(size) if isinstance(kernel, int) else kernel)
    call.inference.widths.require_multiple(patches, count)
    return batch, patches * Fraction(1, count), *call.inference.maps[size]
