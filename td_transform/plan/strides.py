"""Plan: what becomes of each node of a segment when it runs at one resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import getitem

from torch import fx

from td_transform.analyse import Segment, Stride, Trunk, is_coarser
from td_transform.operators import TensorInfo
from td_transform.operators.indexing import spelt_out
from td_transform.operators.mutation import assigned
from td_transform.plan.parts import Change, Drop, SizePreserving, Upsampled, UpsamplePlan
from td_transform.plan.refusals import downsampling

# which axes something changes
Along = tuple[bool, ...]
# the upsampling of a tensor along some axes; None where these need none
Upsampling = Callable[[fx.Node, Along], UpsamplePlan | None]


def find_changes(
    trunk: Trunk, segment: Segment, upsampling: Upsampling | None
) -> dict[fx.Node, Change]:
    """Every downsampling on the way loses its stride; the one that reaches the segment's exit
    stride along an axis becomes the upsampling along it, if there is one. Excursions below the exit
    stride stay, and so does the way back from one above both ends."""
    ends = segment.stride_out
    lowest = tuple(map(max, ends, segment.stride_in))
    highest = tuple(map(min, ends, segment.stride_in))
    changes: dict[fx.Node, Change] = {}
    for node in segment.nodes:
        if node.op == "get_attr":
            continue
        before, after = _strides(trunk, node)
        if before is None or after is None or is_coarser(before, lowest):
            continue
        if is_coarser(after, before):
            comes_back = is_coarser(highest, before) and not is_coarser(after, highest)
            if not comes_back and not is_coarser(after, tuple(map(max, ends, before))):
                reached = tuple(b < a == e for b, a, e in zip(before, after, ends, strict=True))
                changes[node] = _at_crossing(trunk, node, upsampling, reached)
        elif trunk.role(node) in ("conv", "pool"):
            change = _at_rest(trunk, node)
            if change is not None:
                changes[node] = change
        elif _is_crop(trunk, segment, node) or _is_idle(trunk, node, changes):
            changes[node] = Drop()
    return changes


def _strides(trunk: Trunk, node: fx.Node) -> tuple[Stride | None, Stride | None]:
    call = trunk.call(node)
    if not call.tensors or not isinstance(trunk.trace.values.get(call.input), TensorInfo):
        return None, None
    return trunk.stride(call.input), trunk.stride(node)


def _at_crossing(
    trunk: Trunk, node: fx.Node, upsampling: Upsampling | None, reached: Along
) -> Change:
    before = trunk.call(node).input
    # windows laid out in a row of positions: without the step they would be another tensor
    if trunk.is_opaque(node) or trunk.axes(node) != trunk.axes(before):
        raise downsampling(trunk, node)
    # a 1x1 convolution commutes with the upsampling and costs less before it
    commutes = trunk.is_learned(node) and trunk.window(node).is_pointwise
    upsample = upsampling(node if commutes else before, reached) if upsampling else None
    if not trunk.is_learned(node):
        return Upsampled("instead", upsample) if upsample else Drop()
    if upsample is None:
        return SizePreserving()
    return Upsampled("after" if commutes else "before", upsample)


def _at_rest(trunk: Trunk, node: fx.Node) -> Change | None:
    """Windows at stride 1 keep the map's size; padding apart from a window is not needed then."""
    call = trunk.call(node)
    window = call.window()
    before, after = call.shape(), trunk.trace.values[node].shape
    if window.is_pointwise and not trunk.is_learned(node):
        pads = before[2:] != after[2:] and before[1] == after[1] and not window.steps
        pads = pads and _leads_to_window(trunk, node) and not _restores(trunk, node)
        # between two blocks: what pads nothing at these sizes would pad an odd map
        idle = trunk.role(node) == "pool" and before == after and node in trunk.tensors
        return Drop() if pads or idle else None
    # a convolution with a forward of its own may pad, or cut back, otherwise than its window says
    keeps = window.keeps_size or before[2:] == after[2:]
    if keeps or window.steps or is_cut_back(trunk, node):
        return None
    return SizePreserving()


def _leads_to_window(trunk: Trunk, node: fx.Node) -> bool:
    """Is what pads read by a window (one that is size-preserving pads by itself)? Attention that cuts
    its windows out of a padded map needs the padding."""
    for user in node.users:
        if trunk.role(user) in ("conv", "pool") and not trunk.is_opaque(user):
            return not (_is_pointwise(trunk, user) and _is_cut_up(trunk, user))
        passes = trunk.keeps_shape(user) or _filled_padding(trunk, user) is not None
        if passes and _leads_to_window(trunk, user):
            return True
    return False


def _is_pointwise(trunk: Trunk, node: fx.Node) -> bool:
    window = trunk.window(node)
    return window.is_pointwise and not window.steps and trunk.is_learned(node)


def _is_cut_up(trunk: Trunk, node: fx.Node) -> bool:
    """Is a map laid out otherwise next, as attention does with its windows?"""
    return any(
        _is_cut_up(trunk, user)
        if trunk.keeps_shape(user)
        else trunk.role(user) not in ("conv", "pool") and trunk.axes(user) is None
        for user in node.users
    )


def _filled_padding(trunk: Trunk, node: fx.Node) -> fx.Node | None:
    """The padding before what gives other values to a strip of a map, no wider than it has added."""
    axes = trunk.axes(node)
    if node.target is not assigned or axes is None:
        return None
    padding = _before(trunk, node, lambda n: n.target is assigned or trunk.keeps_shape(n))
    if padding.op == "placeholder" or trunk.role(padding) != "pool":
        return None
    whole, inner = trunk.map_size(padding), trunk.map_size(trunk.call(padding).input)
    index = spelt_out(trunk.call(node).number("index", 1), len(trunk.trace.values[node].shape))
    strips = (
        isinstance(index[place], slice) and len(range(size)[index[place]]) <= size - own
        for place, size, own in zip(axes.positions, whole, inner, strict=True)
    )
    return padding if any(strips) else None


def _is_idle(trunk: Trunk, node: fx.Node, changes: Mapping[fx.Node, Change]) -> bool:
    """Does it fill what a padding would have added that is dropped?"""
    padding = _filled_padding(trunk, node)
    return padding is not None and isinstance(changes.get(padding), Drop)


def _before(trunk: Trunk, node: fx.Node, passes: Callable[[fx.Node], bool]) -> fx.Node:
    """The nearest node before one, or itself, that isn't passed."""
    while passes(node):
        node = trunk.call(node).input
    return node


def _restores(trunk: Trunk, node: fx.Node) -> bool:
    """Does what pads make up for what was sliced off before it (a map that is shifted)?"""
    source = _before(trunk, trunk.call(node).input, trunk.keeps_shape)
    size = trunk.map_size(node)
    if source.target is not getitem:
        return False
    whole = trunk.call(source).input  # or several results, of which one is picked
    return trunk.stride(whole) is not None and trunk.map_size(whole) == size


def _is_crop(trunk: Trunk, segment: Segment, node: fx.Node) -> bool:
    """Is a whole map cut, to be added to one that windows without padding have made smaller?"""
    if node.target is not getitem or not all(trunk.call(user).adds for user in node.users):
        return False
    source, whole = trunk.call(node).input, trunk.map_size(trunk.call(node).input)
    steps = zip(trunk.stride(segment.start) or (), trunk.stride(source) or (), strict=False)
    sizes = zip(trunk.map_size(segment.start), steps, strict=False)
    is_whole = whole == tuple(math.ceil(size * own / new) for size, (own, new) in sizes)
    return is_whole and whole != trunk.map_size(node) and trunk.axes(source) == trunk.axes(node)


def is_cut_back(trunk: Trunk, node: fx.Node) -> bool:
    """Is what its padding adds sliced off again (a causal convolution)?"""
    size = trunk.map_size(trunk.call(node).input)
    return bool(node.users) and all(
        user.target is getitem and trunk.map_size(user) == size for user in node.users
    )


def without_identities(
    trunk: Trunk,
    segment: Segment,
    changes: Mapping[fx.Node, Change],
    sizes: Mapping[fx.Node, Mapping[str, int]],
    upsampling: Upsampling | None,
    *,
    from_start: bool,
) -> dict[fx.Node, Change]:
    """A projection whose widths agree is an identity: an upsampling in it stays.

    Args:
        trunk, segment: where the projections stand.
        changes: what becomes of its nodes with the projections.
        sizes: the widths of its layers.
        upsampling: makes the upsampling of a tensor.
        from_start: do the network's own identity shortcuts leave at a block's start (in a
            pre-activation net: before the norm)?
    """
    result = dict(changes)
    for path in _projections(trunk, segment):
        conv = next(n for n in path if trunk.role(n) == "conv")
        if conv not in sizes or sizes[conv]["in"] != sizes[conv]["out"]:
            continue
        fork = trunk.call(path[-1]).input
        if _is_alike(trunk, fork, path[0]):
            continue  # it is there for its own sake, and no projection
        for node in path:
            if trunk.role(node) in ("conv", "norm"):
                before = trunk.call(node).input
                result[node] = _without_layer(result.get(node), before, upsampling)
        if from_start and fork in _activated(trunk, segment):
            _leave_at(segment.start, path[-1], result, upsampling)
    return result


def _activated(trunk: Trunk, segment: Segment) -> set[fx.Node]:
    """A segment's start, and what norms and activations make of it at once."""
    found = {segment.start}
    for node in segment.nodes:
        is_made = trunk.role(node) in ("norm", "activation") and trunk.call(node).input in found
        if node.op != "get_attr" and is_made:
            found.add(node)
    return found


def _is_alike(trunk: Trunk, node: fx.Node, other: fx.Node) -> bool:
    """Have two maps the same width and stride?"""
    return trunk.width(node) == trunk.width(other) and trunk.stride(node) == trunk.stride(other)


def _without_layer(
    change: Change | None, source: fx.Node, upsampling: Upsampling | None, takes: str | None = None
) -> Change:
    """What is left of a node: the upsampling of another tensor, where it had one."""
    if isinstance(change, Upsampled) and upsampling is not None:
        upsample = upsampling(source, tuple(f > 1 for f in change.upsample.factors))
        if upsample is not None:
            return Upsampled("instead", upsample, takes)
    return Drop(takes)


def _leave_at(
    start: fx.Node,
    first: fx.Node,
    changes: dict[fx.Node, Change],
    upsampling: Upsampling | None,
) -> None:
    """Let a shortcut of which nothing is left but its upsampling begin at the block's start."""
    change = changes.get(first)
    if isinstance(change, Drop) or (isinstance(change, Upsampled) and change.where == "instead"):
        changes[first] = _without_layer(change, start, upsampling, start.name)


def _projections(trunk: Trunk, segment: Segment) -> list[tuple[fx.Node, ...]]:
    """The shortcuts of a segment that hold a 1x1 convolution: the nodes of each such path, from
    the sum back to where the paths fork. Of two that are alike neither is a shortcut."""
    members = set(segment.nodes)
    found: list[tuple[fx.Node, ...]] = []
    for node in segment.nodes:
        if node.op == "get_attr" or not trunk.call(node).adds:
            continue
        sources = trunk.call(node).tensors
        paths = [_linear_path(trunk, source, segment.start, members) for source in sources]
        if None in paths:
            found.extend(path for path in paths if path is not None)
    return found


def _linear_path(
    trunk: Trunk, node: fx.Node, start: fx.Node, members: set[fx.Node]
) -> tuple[fx.Node, ...] | None:
    """Walk back over norm, pooling and one 1x1 convolution to where the paths fork."""
    path: list[fx.Node] = []
    convolutions = 0
    while node is not start and node in members and len(node.users) == 1:
        if node.op == "get_attr" or len(trunk.call(node).tensors) != 1:
            return None
        role = trunk.role(node)
        if role == "conv":
            if not trunk.window(node).is_pointwise or not trunk.is_learned(node):
                return None
            convolutions += 1
        elif role not in ("norm", "pool", "inert"):
            return None
        path.append(node)
        node = trunk.call(node).tensors[0]
    forks = node is start or len(node.users) > 1
    return tuple(path) if forks and convolutions == 1 else None
