"""Analyse: the units and blocks that belong together become one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import fx, nn

from td_transform.analyse.segments import is_pointwise_unit
from td_transform.analyse.trunk import Segment, Trunk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def join_blocks(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """Depthwise units with their pointwise ones, then all instances of a block's class."""
    return _join_instances(trunk, _join_depthwise(trunk, segments))


def _is_gate(trunk: Trunk, segment: Segment) -> bool:
    """Squeeze-excite and its kin: learned layers act on pooled features alone."""
    learned = [n for n in segment.nodes if trunk.is_learned(n)]
    return segment.kind == "block" and all(trunk.stride(n) is None for n in learned)


def _join_depthwise(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """A depthwise unit, the expansion before it and the projection after it are one block."""
    result: list[Segment] = []
    rest = list(segments)
    while rest:
        segment = rest.pop(0)
        if segment.kind != "depthwise":
            result.append(segment)
            continue
        block = segment
        while rest and _is_gate(trunk, rest[0]):
            block = block.joined(rest.pop(0), "block")
        if rest and is_pointwise_unit(trunk, rest[0]):
            block = block.joined(rest.pop(0), "block")
        before = result[-1] if result else None
        hidden = trunk.width(segment.start)
        expands = before is not None and is_pointwise_unit(trunk, before) and len(result) > 1
        if before is not None and expands:
            narrow = max(trunk.width(before.start), trunk.width(block.end))
            block = result.pop().joined(block, "block") if narrow < hidden else block
        result.append(replace(block, kind="block"))
    return result


def _join_instances(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """If a module class is a block once, all its instances are blocks (some have no shortcut)."""
    classes = {
        cls
        for segment in segments
        if segment.kind == "block" and not _is_gate(trunk, segment)
        if (cls := block_class(trunk, segment)) is not None
    }
    result: list[Segment] = []
    for segment in segments:
        path = _instance(trunk, segment, classes)
        before = result[-1] if result else None
        same = before is not None and path is not None and path == _instance(trunk, before, classes)
        kinds = (segment.kind, before.kind if before is not None else "")
        if (
            same
            and before is not None
            and "pool" not in kinds
            and not _both_branch(trunk, before, segment)
        ):
            result[-1] = before.joined(segment, "block")
        else:
            result.append(segment)
    return result


def _both_branch(trunk: Trunk, left: Segment, right: Segment) -> bool:
    def branches(segment: Segment) -> bool:
        return segment.kind == "block" and not _is_gate(trunk, segment)

    return branches(left) and branches(right)


def _stack(node: fx.Node) -> list[tuple[str, type]]:
    return list((node.meta.get("nn_module_stack") or {}).values())


def scope(trunk: Trunk, segment: Segment) -> list[tuple[str, type]]:
    """The modules, from the outermost, that what is learned or combined in a segment lies in."""
    stacks = [_stack(n) for n in segment.nodes if _is_body(trunk, n)]
    common = []
    for level in zip(*stacks, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return [(path, cls) for path, cls in common if path]


def _is_body(trunk: Trunk, node: fx.Node) -> bool:
    return node.op != "get_attr" and (trunk.is_learned(node) or trunk.role(node) == "combine")


def block_class(trunk: Trunk, segment: Segment) -> type | None:
    """The class of the innermost module that a segment lies in."""
    modules = scope(trunk, segment)
    return modules[-1][1] if modules and modules[-1][1] not in _CONTAINERS else None


def _instance(trunk: Trunk, segment: Segment, classes: set[type]) -> str | None:
    """The path of the innermost block instance that a segment lies in."""
    inside = [path for path, cls in scope(trunk, segment) if cls in classes]
    return inside[-1] if inside else None
