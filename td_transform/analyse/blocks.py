"""Analyse: the units and blocks that belong together become one block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    depthwise = [s for s in segments if s.kind == "depthwise"]
    within = Counter(path for s in depthwise for path, _ in scope(trunk, s))
    result: list[Segment] = []
    rest = list(segments)
    while rest:
        segment = rest.pop(0)
        if segment.kind != "depthwise":
            result.append(segment)
            continue
        block = segment
        if _blurs(trunk, block, rest, within):
            block = block.joined(rest.pop(0), "block")
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


def _blurs(
    trunk: Trunk, unit: Segment, rest: Sequence[Segment], depthwise: Mapping[str, int]
) -> bool:
    """Does a pooling stand between a depthwise unit and its projection, all in a module without
    another depthwise unit?"""
    if not rest or rest[0].kind != "pool":
        return False
    end = next((s for s in rest[1:] if not _is_gate(trunk, s)), None)
    if end is None or not is_pointwise_unit(trunk, end):
        return False
    nodes = [n for s in (unit, rest[0], end) for n in s.nodes if n.op != "get_attr"]
    return any(depthwise[path] == 1 for path, _ in _common(nodes))


def _join_instances(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """If a module class is a block once, all its instances are blocks (some have no shortcut)."""
    classes = {
        cls
        for segment in segments
        if segment.kind == "block" and not _is_gate(trunk, segment)
        if (cls := block_class(trunk, segment)) is not None
    }
    instances = _single(segments, [_instances(trunk, s, classes) for s in segments])
    result: list[Segment] = []
    has_branched = False
    last: set[str] = set()
    for segment, inside in zip(segments, instances, strict=True):
        branches = segment.kind == "block" and not _is_gate(trunk, segment)
        before = result[-1] if result else None
        if (
            before is not None
            and "pool" not in (before.kind, segment.kind)
            and inside & last
            and (not (has_branched and branches) or _widens_between(trunk, before, segment))
        ):
            result[-1] = before.joined(segment, "block")
            has_branched, last = has_branched or branches, inside & last
        else:
            result.append(segment)
            has_branched, last = branches, inside
    return result


def _single(segments: Sequence[Segment], instances: Sequence[set[str]]) -> list[set[str]]:
    """Instances without the modules in which the resolution falls twice: those hold stages."""
    falls = Counter(
        path for s, inside in zip(segments, instances, strict=True) if s.crosses for path in inside
    )
    return [{path for path in inside if falls[path] < 2} for inside in instances]


def _widens_between(trunk: Trunk, left: Segment, right: Segment) -> bool:
    """Are they the two ends of an inverted bottleneck, and not two blocks?"""
    wide, narrow = trunk.width(left.end), max(trunk.width(left.start), trunk.width(right.end))
    return wide > narrow


def _stack(node: fx.Node) -> list[tuple[str, type]]:
    return list((node.meta.get("nn_module_stack") or {}).values())


def scope(trunk: Trunk, segment: Segment) -> list[tuple[str, type]]:
    """The modules, from the outermost, that what is learned or combined in a segment lies in."""
    return _common([n for n in segment.nodes if _is_body(trunk, n)])


def _common(nodes: Sequence[fx.Node]) -> list[tuple[str, type]]:
    common = []
    for level in zip(*map(_stack, nodes), strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return [(path, cls) for path, cls in common if path]


def belongs(trunk: Trunk, segment: Segment, pool: Segment, before: Segment) -> bool:
    """Do a segment and a pooling lie in one module, apart from the block before them?"""
    around = {path for path, _ in _common([n for n in pool.nodes if n.op != "get_attr"])}
    outside = {path for path, _ in scope(trunk, before)}
    return any(path in around - outside for path, _ in scope(trunk, segment))


def _is_body(trunk: Trunk, node: fx.Node) -> bool:
    if node.op == "get_attr":
        return False
    is_combined = trunk.role(node) == "combine" and not trunk.moves_tokens(node)
    return trunk.is_learned(node) or is_combined


def block_class(trunk: Trunk, segment: Segment) -> type | None:
    """The class of the innermost module that a segment lies in, its layers aside."""
    layers = {n.target for n in segment.nodes if trunk.role(n) in ("conv", "linear")}
    modules = [cls for path, cls in scope(trunk, segment) if path not in layers]
    return modules[-1] if modules and modules[-1] not in _CONTAINERS else None


def _instances(trunk: Trunk, segment: Segment, classes: set[type]) -> set[str]:
    """The paths of the block instances that a segment lies in."""
    return {path for path, cls in scope(trunk, segment) if cls in classes}
