"""Analyse: group the regions of the trunk into units, blocks and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from td_transform.analyse.trunk import Anatomy, Kind, Segment, Token, cut_points, tokens
from td_transform.errors import StructureError

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layout:
    """The trunk in pieces.

    Args:
        image: what the first learned layer reads: the input, or its preprocessed form.
        segments: the units, blocks and poolings, fine to coarse.
        head_start: the map that the head reads.
        pre_activation: does a norm and activation stand between the last block and the pooling?
    """

    image: fx.Node
    segments: tuple[Segment, ...]
    head_start: fx.Node
    pre_activation: bool


def lay_out(anatomy: Anatomy) -> Layout:
    """Cut the trunk into segments.

    Raises:
        StructureError: the network has no trunk to cut, or no head after its last map.
    """
    points = cut_points(anatomy)
    pieces = tokens(anatomy, points)
    _check_head(anatomy, points[-1])
    first = next(
        (i for i, t in enumerate(pieces) if t.kind not in ("norm", "activation", "inert")), 0
    )
    body = list(pieces[first:])
    image = body[0].start if body else points[0]
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
    segments = _merge_classes(
        anatomy, _merge_depthwise(anatomy, _group(anatomy, body, pre_activation))
    )
    head_start = body[-1].nodes[-1] if body else points[-1]
    if segments and not _learned_after(anatomy, points[-1]):
        head_start, segments = _classifier_start(anatomy, segments)
    return Layout(image, tuple(segments), head_start, pre_activation)


def _classifier_start(anatomy: Anatomy, segments: list[Segment]) -> tuple[fx.Node, list[Segment]]:
    """The classifier unit goes to the head, with the dropout before it."""
    *kept, classifier = segments
    if not kept:
        return classifier.start, kept
    nodes = list(kept[-1].nodes)
    while len(nodes) > 1 and anatomy.role(nodes[-1]) == "inert":
        nodes.pop()
    kept[-1] = replace(kept[-1], nodes=tuple(nodes))
    return nodes[-1], kept


def _check_head(anatomy: Anatomy, last_map: fx.Node) -> None:
    """After the last map there must be a head, and no convolution at several strides."""
    output = anatomy.trunk[-1]
    if anatomy.stride(output) is not None:
        raise StructureError(
            anatomy.trace.place(output),
            seen="a map as output",
            expected="logits after a global pooling or flattening",
            remedy="convert a classifier; use the emitted model's levels as a backbone",
        )
    nodes = anatomy.between(last_map, output)
    strides = {anatomy.stride(n) for n in nodes if anatomy.is_learned(n)} - {None}
    if len(strides) > 1:
        raise uncuttable(anatomy, last_map, nodes)


def uncuttable(anatomy: Anatomy, start: fx.Node, nodes: Sequence[fx.Node]) -> StructureError:
    """The error for a region that spans several strides, with the tensors that cross."""
    by_stride: dict[object, fx.Node] = {}
    for node in nodes:
        if anatomy.stride(node) is not None and anatomy.is_learned(node):
            by_stride.setdefault(anatomy.stride(node), node)
    crossing = ", ".join(
        f"'{n.name}' (stride {max(anatomy.stride(n) or (0,))})" for n in by_stride.values()
    )
    return StructureError(
        anatomy.trace.place(start),
        seen=f"that after this tensor several maps cross every change of resolution: {crossing}",
        expected="one tensor at every change of resolution (a trunk that can be cut)",
        remedy="convert a network with a single trunk; multi-branch networks that exchange "
        "resolutions (HRNet, NASNet) have no coarse-to-fine order",
    )


def _learned_after(anatomy: Anatomy, last_map: fx.Node) -> bool:
    return any(anatomy.is_learned(n) for n in anatomy.between(last_map, anatomy.trunk[-1]))


def _segment(anatomy: Anatomy, kind: Kind, parts: Sequence[Token]) -> Segment:
    nodes = tuple(n for part in parts for n in part.nodes)
    start_stride, end_stride = anatomy.stride(parts[0].start), anatomy.stride(nodes[-1])
    if start_stride is None or end_stride is None:
        raise uncuttable(anatomy, parts[0].start, nodes)
    return Segment(kind, parts[0].start, nodes, start_stride, end_stride)


def _group(anatomy: Anatomy, pieces: Sequence[Token], pre_activation: bool) -> list[Segment]:
    """Convolutions with the norms and activations that belong to them."""
    groups: list[list[Token]] = []
    pending: list[Token] = []
    for i, token in enumerate(pieces):
        last = groups[-1][-1] if groups else None
        if token.kind in ("conv", "depthwise", "block"):
            groups.append([*pending, token])
            pending = []
        elif token.kind == "pool":
            if groups:
                groups[-1].extend(pending)
            groups.append([token])
            pending = []
        elif token.kind == "norm":
            behind_conv = last is not None and last.kind in ("conv", "depthwise") and not pending
            if behind_conv and not (pre_activation and _leads_into_block(pieces[i:])):
                groups[-1].append(token)
            else:
                pending.append(token)
        elif pending or not groups:
            pending.append(token)
        else:
            groups[-1].append(token)
    if groups:
        groups[-1].extend(pending)
    return [_segment(anatomy, _kind(group), group) for group in groups]


def _kind(group: Sequence[Token]) -> Kind:
    kinds = [t.kind for t in group]
    if "block" in kinds:
        return "block"
    if "pool" in kinds:
        return "pool"
    return "depthwise" if "depthwise" in kinds else "unit"


def _leads_into_block(pieces: Sequence[Token]) -> bool:
    follower = next((t for t in pieces if t.kind not in ("norm", "activation", "inert")), None)
    return follower is not None and follower.kind == "block"


def is_pointwise_unit(anatomy: Anatomy, segment: Segment) -> bool:
    """A unit whose convolution is 1x1 at stride 1."""
    return (
        segment.kind == "unit" and not segment.crosses and entry_kernel(anatomy, segment) == (1, 1)
    )


def entry_conv(anatomy: Anatomy, segment: Segment) -> fx.Node | None:
    """The first learned convolution of a segment."""
    return next(
        (n for n in segment.nodes if anatomy.is_learned(n) and anatomy.role(n) == "conv"), None
    )


def entry_kernel(anatomy: Anatomy, segment: Segment) -> tuple[int, int]:
    """The kernel of a segment's first convolution."""
    from td_transform.analyse.infer import call_of

    node = entry_conv(anatomy, segment)
    return (1, 1) if node is None else call_of(anatomy.trace, node, anatomy.region).window().kernel


def _is_gate(anatomy: Anatomy, segment: Segment) -> bool:
    """Squeeze-excite and its kin: learned layers act on pooled features alone."""
    learned = [n for n in segment.nodes if anatomy.is_learned(n)]
    return segment.kind == "block" and all(anatomy.stride(n) is None for n in learned)


def _merge_depthwise(anatomy: Anatomy, segments: Sequence[Segment]) -> list[Segment]:
    """A depthwise unit, the expansion before it and the projection after it are one block."""
    result: list[Segment] = []
    rest = list(segments)
    while rest:
        segment = rest.pop(0)
        if segment.kind != "depthwise":
            result.append(segment)
            continue
        block = segment
        while rest and _is_gate(anatomy, rest[0]):
            block = block.joined(rest.pop(0), "block")
        if rest and is_pointwise_unit(anatomy, rest[0]):
            block = block.joined(rest.pop(0), "block")
        before = result[-1] if result else None
        hidden = anatomy.width(segment.start)
        expands = before is not None and is_pointwise_unit(anatomy, before) and len(result) > 1
        if before is not None and expands:
            narrow = max(anatomy.width(before.start), anatomy.width(block.end))
            block = result.pop().joined(block, "block") if narrow < hidden else block
        result.append(replace(block, kind="block"))
    return result


def _merge_classes(anatomy: Anatomy, segments: Sequence[Segment]) -> list[Segment]:
    """If a module class is a block once, all its instances are blocks (some have no shortcut)."""
    classes = {
        cls
        for segment in segments
        if segment.kind == "block" and not _is_gate(anatomy, segment)
        if (cls := _innermost_class(anatomy, segment)) is not None
    }
    result: list[Segment] = []
    for segment in segments:
        path = _instance(anatomy, segment, classes)
        before = result[-1] if result else None
        same = (
            before is not None and path is not None and path == _instance(anatomy, before, classes)
        )
        kinds = (segment.kind, before.kind if before is not None else "")
        if (
            same
            and before is not None
            and "pool" not in kinds
            and not _both_branch(anatomy, before, segment)
        ):
            result[-1] = before.joined(segment, "block")
        else:
            result.append(segment)
    return result


def _both_branch(anatomy: Anatomy, left: Segment, right: Segment) -> bool:
    def branches(segment: Segment) -> bool:
        return segment.kind == "block" and not _is_gate(anatomy, segment)

    return branches(left) and branches(right)


def _stack(node: fx.Node) -> list[tuple[str, type]]:
    return list((node.meta.get("nn_module_stack") or {}).values())


def scope(anatomy: Anatomy, segment: Segment) -> list[tuple[str, type]]:
    """The modules, from the outermost, that what is learned or combined in a segment lies in."""
    stacks = [_stack(n) for n in segment.nodes if _is_body(anatomy, n)]
    common = []
    for level in zip(*stacks, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return [(path, cls) for path, cls in common if path]


def _is_body(anatomy: Anatomy, node: fx.Node) -> bool:
    return node.op != "get_attr" and (anatomy.is_learned(node) or anatomy.role(node) == "combine")


def _innermost_class(anatomy: Anatomy, segment: Segment) -> type | None:
    modules = scope(anatomy, segment)
    return modules[-1][1] if modules and modules[-1][1] not in _CONTAINERS else None


def _instance(anatomy: Anatomy, segment: Segment, classes: set[type]) -> str | None:
    """The path of the innermost block instance that a segment lies in."""
    inside = [path for path, cls in scope(anatomy, segment) if cls in classes]
    return inside[-1] if inside else None
