"""Plan: what becomes of each node of a segment when it runs at one resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import fx

from td_transform.analyse.infer import call_of
from td_transform.analyse.trunk import Anatomy, Segment
from td_transform.operators import TensorInfo
from td_transform.plan.values import Action


def segment_actions(anatomy: Anatomy, segment: Segment, *, up: bool) -> dict[fx.Node, Action]:
    """Every downsampling on the way loses its stride; the one that reaches the segment's exit
    stride becomes the upsampling, if there is one. Excursions below the exit stride stay."""
    low = max(segment.stride_in)
    exit_stride = max(segment.stride_out)
    actions: dict[fx.Node, Action] = {}
    for node in segment.nodes:
        if node.op == "get_attr":
            continue
        before, after = _strides(anatomy, node)
        if before is None or after is None or before > max(exit_stride, low):
            continue
        if after > before:
            if after <= exit_stride:
                actions[node] = _at_crossing(anatomy, node, up=up and after == exit_stride)
        elif anatomy.role(node) in ("conv", "pool"):
            action = _at_rest(anatomy, node)
            if action is not None:
                actions[node] = action
    return actions


def _strides(anatomy: Anatomy, node: fx.Node) -> tuple[Fraction | None, Fraction | None]:
    call = call_of(anatomy.trace, node, anatomy.region)
    if not call.tensors or not isinstance(anatomy.trace.values.get(call.input), TensorInfo):
        return None, None
    before, after = anatomy.stride(call.input), anatomy.stride(node)
    return (max(before) if before else None), (max(after) if after else None)


def _at_crossing(anatomy: Anatomy, node: fx.Node, *, up: bool) -> Action:
    if not anatomy.is_learned(node):
        return "up" if up else "drop"
    if not up:
        return "same"
    # a 1x1 convolution commutes with the upsampling and costs less before it
    window = call_of(anatomy.trace, node, anatomy.region).window()
    return "same-up" if window.is_pointwise else "up-same"


def _at_rest(anatomy: Anatomy, node: fx.Node) -> Action | None:
    """Windows at stride 1 keep the map's size; padding apart from a window is not needed then."""
    call = call_of(anatomy.trace, node, anatomy.region)
    window = call.window()
    before, after = call.shape(), anatomy.trace.values[node].shape
    if window.is_pointwise:
        pads = before[-2:] != after[-2:] and before[1] == after[1] and set(window.stride) == {1}
        return "drop" if pads else None
    return None if window.keeps_size or set(window.stride) != {1} else "same"


def projections(anatomy: Anatomy, segment: Segment) -> list[tuple[fx.Node, ...]]:
    """The shortcuts of a segment that hold a 1x1 convolution: the nodes of each such path."""
    members = set(segment.nodes)
    found = []
    for node in segment.nodes:
        if (
            node.op == "get_attr"
            or anatomy.role(node) != "combine"
            or len(_tensors(anatomy, node)) != 2
        ):
            continue
        for source in _tensors(anatomy, node):
            path = _linear_path(anatomy, source, segment.start, members)
            if path is not None:
                found.append(path)
    return found


def _tensors(anatomy: Anatomy, node: fx.Node) -> Sequence[fx.Node]:
    return call_of(anatomy.trace, node, anatomy.region).tensors


def _linear_path(
    anatomy: Anatomy, node: fx.Node, start: fx.Node, members: set[fx.Node]
) -> tuple[fx.Node, ...] | None:
    """Walk back over norm, pooling and one 1x1 convolution to where the paths fork."""
    path: list[fx.Node] = []
    convolutions = 0
    while node is not start and node in members and len(node.users) == 1:
        if node.op == "get_attr" or len(_tensors(anatomy, node)) != 1:
            return None
        role = anatomy.role(node)
        if role == "conv":
            window = call_of(anatomy.trace, node, anatomy.region).window()
            if not window.is_pointwise or not anatomy.is_learned(node):
                return None
            convolutions += 1
        elif role not in ("norm", "pool", "inert"):
            return None
        path.append(node)
        node = _tensors(anatomy, node)[0]
    forks = node is start or len(node.users) > 1
    return tuple(path) if forks and convolutions == 1 else None


def without_identities(
    anatomy: Anatomy,
    segment: Segment,
    actions: Mapping[fx.Node, Action],
    sizes: Mapping[fx.Node, Mapping[str, int]],
) -> dict[fx.Node, Action]:
    """A projection whose widths agree is an identity: an upsampling in it stays."""
    result = dict(actions)
    for path in projections(anatomy, segment):
        conv = next(n for n in path if anatomy.role(n) == "conv")
        if conv not in sizes or sizes[conv]["in"] != sizes[conv]["out"]:
            continue
        for node in path:
            if anatomy.role(node) in ("conv", "norm"):
                ups = result.get(node, "keep") in ("up", "same-up", "up-same")
                result[node] = "up" if ups else "drop"
    return result
