"""Analyse: the trunk in pieces, from what the first learned layer reads to where the head starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from torch import fx

from td_transform.analyse.blocks import join_blocks
from td_transform.analyse.infer import operator_of
from td_transform.analyse.refusals import uncuttable
from td_transform.analyse.regions import Region, cut_points, regions
from td_transform.analyse.segments import covers, group_regions
from td_transform.analyse.solve import carries_width
from td_transform.analyse.trunk import Segment, Trunk
from td_transform.errors import StructureError
from td_transform.layers.parameters import parameters_of


@dataclass(frozen=True)
class Layout:
    """The trunk in pieces.

    Args:
        image: what the first learned layer reads: the input, or its preprocessed form.
        segments: the units, blocks and poolings, fine to coarse.
        head_start: the map that the head reads.
        pre_activation: does a norm and activation stand between the last block and the pooling?
        classifies: is a learned layer in the head? The features of a network without one are as many
            as its last map has channels.
    """

    image: fx.Node
    segments: tuple[Segment, ...]
    head_start: fx.Node
    pre_activation: bool
    classifies: bool


def lay_out(trunk: Trunk) -> Layout:
    """Cut the trunk into segments.

    Raises:
        StructureError: the network has no trunk to cut, or no head after its last map.
    """
    points = cut_points(trunk)
    pieces = regions(trunk, points)
    _check_head(trunk, points[-1])
    first = next(
        (i for i, t in enumerate(pieces) if t.kind not in ("norm", "activation", "inert")), 0
    )
    while first and _pads(trunk, pieces[first - 1]):
        first -= 1
    body = list(pieces[first:])
    image = body[0].start if body else points[0]
    body = _without_weighting(trunk, _without_head_tokens(trunk, body))
    body = _without_pooling_module(trunk, body, points[-1])
    body = _before_covered(trunk, body)
    while body and body[-1].kind in ("pool", "inert"):
        body.pop()
    tail = len(body)
    while tail and body[tail - 1].kind in ("norm", "activation", "inert"):
        tail -= 1
    while tail < len(body) and body[tail].kind != "norm":
        tail += 1
    before = next((t for t in reversed(body[:tail]) if t.kind != "inert"), None)
    pre_activation = tail < len(body) and before is not None and before.kind == "block"
    if pre_activation:
        body = body[:tail]
    segments = join_blocks(trunk, group_regions(trunk, body, pre_activation))
    head_start = body[-1].nodes[-1] if body else points[-1]
    classifies = _learned_after(trunk, head_start)
    if segments and not classifies and _may_classify(trunk, segments[-1]):
        head_start, segments = _classifier_start(trunk, segments)
        classifies = True
    return Layout(image, tuple(segments), head_start, pre_activation, classifies)


def _without_head_tokens(trunk: Trunk, body: list[Region]) -> list[Region]:
    """Class tokens that are added behind the last learned layer are read by the head alone: they, and
    what follows them, belong to it."""
    for i, piece in reversed(list(enumerate(body))):
        if any(trunk.is_learned(n) for n in piece.nodes):
            break
        if any(trunk.adds_tokens(n) for n in piece.nodes):
            return body[:i]
    return body


def _without_weighting(trunk: Trunk, body: list[Region]) -> list[Region]:
    """Learned weights of positions, by which the map is multiplied before it is summed, are a pooling:
    a part of the head."""
    if not body or body[-1].kind != "block":
        return body
    end = body[-1].nodes[-1]
    summed = all(operator_of(trunk.trace, user).gathers == "sum" for user in end.users)
    return body[:-1] if summed and trunk.call(end).multiplies else body


def _without_pooling_module(trunk: Trunk, body: list[Region], end: fx.Node) -> list[Region]:
    """What a module of the user's own that pools does to the map before (a power, in a generalised mean)
    belongs to the pooling: to the head."""
    readers = [user for user in end.users if trunk.role(user) in ("pool", "collapse")]
    paths = {trunk.trace.path(user) for user in readers if user.op != "call_module"}
    path = next(iter(paths), "")
    if len(paths) != 1 or not path:
        return body
    parts = trunk.trace.skeleton.get_submodule(path).children()
    if any(next(parameters_of(part), None) is not None for part in parts):
        return body
    kept = list(body)
    while kept and all(trunk.trace.path(n) == path for n in kept[-1].nodes if n.op != "get_attr"):
        kept.pop()
    return kept


def _before_covered(trunk: Trunk, body: list[Region]) -> list[Region]:
    """A convolution whose kernel is the whole map is a fully connected layer: the head begins there, or
    with the block that makes a single position of the map by it."""
    for i, piece in enumerate(body):
        ends_small = piece.kind == "block" and prod(trunk.map_size(piece.nodes[-1])) == 1
        may_cover = ends_small or piece.kind in ("conv", "depthwise")
        if may_cover and any(covers(trunk, n) for n in piece.nodes):
            return body[:i]
    return body


def _may_classify(trunk: Trunk, segment: Segment) -> bool:
    """Could it be the classifier? A unit, or a block that isn't residual and sets its own width, whose
    channels are the outputs; what else stands before the pooling makes features."""
    if prod(trunk.trace.values[trunk.tensors[-1]].shape[1:]) != trunk.width(segment.end):
        return False
    return segment.kind == "unit" or (
        not segment.crosses and not _is_residual(trunk, segment) and carries_width(trunk, segment)
    )


def _is_residual(trunk: Trunk, segment: Segment) -> bool:
    """Are two things added that are both made of what flows in (no bias, no positions)?"""
    made = {segment.start}
    for node in segment.nodes:
        if node.op == "get_attr" or made.isdisjoint(node.all_input_nodes):
            continue
        if trunk.call(node).adds and len(made.intersection(trunk.call(node).tensors)) > 1:
            return True
        made.add(node)
    return False


def _classifier_start(trunk: Trunk, segments: list[Segment]) -> tuple[fx.Node, list[Segment]]:
    """The classifier unit goes to the head, with the dropout and the pooling before it."""
    *kept, classifier = segments
    if not kept:
        return classifier.start, kept
    nodes = list(kept[-1].nodes)
    behind = ("inert", "pool")
    while len(nodes) > 1 and trunk.role(nodes[-1]) in behind and _is_map(trunk, nodes[-2]):
        nodes.pop()
    kept[-1] = replace(kept[-1], nodes=tuple(nodes))
    return nodes[-1], kept


def _pads(trunk: Trunk, piece: Region) -> bool:
    """Does it make the map larger? That is a part of the convolution that follows, not of the image."""
    return trunk.map_size(piece.nodes[-1]) != trunk.map_size(piece.start)


def _is_map(trunk: Trunk, node: fx.Node) -> bool:
    """A place where the trunk may be cut: not between a view and a reshape, say."""
    return node in trunk.tensors and trunk.axes(node) is not None


def _check_head(trunk: Trunk, last_map: fx.Node) -> None:
    """After the last map there must be a head, and no convolution at several strides."""
    output = trunk.tensors[-1]
    if trunk.stride(output) is not None:
        raise StructureError(
            trunk.trace.place(output),
            seen="a map as output",
            expected="logits after a global pooling or flattening",
            remedy="convert a classifier; `.backbone()` of the result gives the maps of its levels",
        )
    nodes = trunk.between(last_map, output)
    strides = {trunk.stride(n) for n in nodes if trunk.is_learned(n)} - {None}
    if len(strides) > 1:
        raise uncuttable(trunk, last_map, nodes)


def _learned_after(trunk: Trunk, last_map: fx.Node) -> bool:
    """Does a layer follow that sets how many outputs there are (a depthwise one doesn't)?"""
    nodes = trunk.between(last_map, trunk.tensors[-1])
    return any(trunk.is_learned(n) and not trunk.is_depthwise(n) for n in nodes)
