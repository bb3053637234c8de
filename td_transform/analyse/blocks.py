"""Analyse: the units and blocks that belong together become one block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

from torch import fx, nn

from td_transform.analyse.segments import entry_kernel, is_pointwise_unit
from td_transform.analyse.trunk import Segment, Trunk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def join_blocks(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """Depthwise units with their pointwise ones, what widens with what narrows again, then all
    instances of a block's class."""
    whole = _join_axes(segments)
    return _join_instances(trunk, _join_narrowing(trunk, _join_depthwise(trunk, whole)))


def _join_axes(segments: Sequence[Segment]) -> list[Segment]:
    """A unit that steps along some axes and the depthwise one behind it that steps along the others
    (MicroNet) are one change of resolution."""
    result: list[Segment] = []
    for segment in segments:
        before = result[-1] if result else None
        if before is not None and segment.kind == "depthwise" and _is_completed(before, segment):
            result[-1] = before.joined(segment, before.kind)
        else:
            result.append(segment)
    return result


def _is_completed(left: Segment, right: Segment) -> bool:
    """Do two units step along all axes together, and along none both?"""
    steps = [
        [after != before for before, after in zip(s.stride_in, s.stride_out, strict=True)]
        for s in (left, right)
    ]
    is_unit = left.kind in ("unit", "depthwise")
    return is_unit and all(a != b for a, b in zip(*steps, strict=True)) and all(map(any, steps))


def _is_gate(trunk: Trunk, segment: Segment) -> bool:
    """Squeeze-excite and its kin: learned layers act on pooled features alone."""
    learned = [n for n in segment.nodes if trunk.is_learned(n)]
    return segment.kind == "block" and all(trunk.stride(n) is None for n in learned)


def _join_depthwise(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """A depthwise unit, the expansion before it and the projection after it are one block."""
    falls = Counter(path for s in segments if s.crosses for path in _paths(s))
    result: list[Segment] = []
    rest = list(segments)
    while rest:
        segment = rest.pop(0)
        if segment.kind != "depthwise" and not _is_depthwise_in_branches(trunk, segment):
            result.append(segment)
            continue
        block = segment
        if _blurs(trunk, block, rest, falls):
            block = block.joined(rest.pop(0), "block")
        while rest and _is_gate(trunk, rest[0]):
            block = block.joined(rest.pop(0), "block")
        if rest and _is_pointwise(trunk, rest[0]) and not _leads_on(segment, rest):
            projection = rest.pop(0)
            block = block.joined(projection, "block")
            while rest and _is_gate(trunk, rest[0]) and _is_apart(projection, rest[0], segment):
                block = block.joined(rest.pop(0), "block")
        if _is_expanded(trunk, segment, block, result):
            block = result.pop().joined(block, "block")
        result.append(replace(block, kind="block"))
    return result


def _is_expanded(trunk: Trunk, depthwise: Segment, block: Segment, done: Sequence[Segment]) -> bool:
    """Is what stands right before a depthwise unit its expansion, and not the end of another block?"""
    if len(done) < 2 or not is_pointwise_unit(trunk, done[-1]):
        return False
    narrow = max(trunk.width(done[-1].start), trunk.width(block.end))
    ends_another = _is_apart(done[-2], done[-1], depthwise)
    return narrow < trunk.width(depthwise.start) and not ends_another


def is_unit_in_branches(trunk: Trunk, segment: Segment) -> bool:
    """Do all its convolutions read what flows in, and does nothing else of that get past them (MobileOne
    before its branches are made one)?"""
    learned = [n for n in segment.nodes if trunk.is_learned(n) and trunk.stride(n) is not None]
    convs = [n for n in learned if trunk.slides(n)]
    if (
        segment.kind != "block"
        or not convs
        or any(trunk.call(n).input is not segment.start for n in convs)
    ):
        return False
    passed = any(
        segment.start in trunk.call(n).tensors for n in segment.nodes if trunk.call(n).adds
    )
    return not passed and all(trunk.slides(n) or trunk.role(n) == "norm" for n in learned)


def _is_depthwise_in_branches(trunk: Trunk, segment: Segment) -> bool:
    convs = [n for n in segment.nodes if trunk.is_learned(n) and trunk.slides(n)]
    return is_unit_in_branches(trunk, segment) and all(map(trunk.is_depthwise, convs))


def _is_pointwise(trunk: Trunk, segment: Segment) -> bool:
    if is_pointwise_unit(trunk, segment):
        return True
    in_branches = not segment.crosses and is_unit_in_branches(trunk, segment)
    return in_branches and set(entry_kernel(trunk, segment)) == {1}


def _leads_on(before: Segment, rest: Sequence[Segment]) -> bool:
    """Does a module hold a pointwise unit with the depthwise one behind it, but not the one before?"""
    pointwise, *after = rest[:2]
    if not after or after[0].kind != "depthwise":
        return False
    return _is_apart(pointwise, after[0], before)


def _is_apart(left: Segment, right: Segment, other: Segment) -> bool:
    """Does a module hold two segments, but not another?"""
    return bool(_paths(left, right) - _paths(other, left))


def _blurs(trunk: Trunk, unit: Segment, rest: Sequence[Segment], falls: Mapping[str, int]) -> bool:
    """Does a pooling stand between a depthwise unit and its projection, all in a module in which the
    resolution falls here alone?"""
    if not rest or rest[0].kind != "pool":
        return False
    end = next((s for s in rest[1:] if not _is_gate(trunk, s)), None)
    if end is None or not is_pointwise_unit(trunk, end):
        return False
    return any(falls[path] == 1 for path in _paths(unit, rest[0], end))


def _join_narrowing(trunk: Trunk, segments: Sequence[Segment]) -> list[Segment]:
    """A unit or block that widens and the 1x1 unit that narrows again are one block where a module
    holds these two alone; a blur may stand between them."""
    within = Counter(path for s in segments for path in _paths(s))
    result: list[Segment] = []
    rest = list(segments)
    while rest:
        # the first segment is the stem's, which no block takes in
        count = _narrowed(trunk, rest, within) if result else 1
        result.append(reduce(lambda a, b: a.joined(b, "block"), rest[:count]))
        del rest[:count]
    return result


def _narrowed(trunk: Trunk, segments: Sequence[Segment], within: Mapping[str, int]) -> int:
    """How many segments, from the first, are a bottleneck: 1 where they are none."""
    wide = segments[0]
    count = 3 if len(segments) > 1 and segments[1].kind == "pool" else 2
    if wide.kind not in ("unit", "block") or len(segments) < count:
        return 1
    last = segments[count - 1]
    narrow = max(trunk.width(wide.start), trunk.width(last.end))
    if not is_pointwise_unit(trunk, last) or trunk.width(wide.end) <= narrow:
        return 1
    is_linear = not any(n.op != "get_attr" and trunk.activates(n) for n in last.nodes)
    alone = any(within[path] == count for path in _paths(*segments[:count]))
    return count if alone and (wide.kind == "block" or is_linear) else 1


def _paths(*segments: Segment) -> set[str]:
    """The modules that segments lie in, parameters aside."""
    return {
        path for path, _ in _common([n for s in segments for n in s.nodes if n.op != "get_attr"])
    }


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
    for i, (segment, inside) in enumerate(zip(segments, instances, strict=True)):
        branches = segment.kind == "block" and not _is_gate(trunk, segment)
        before = result[-1] if result else None
        # it leads to what follows, and is no part of the blocks on either side
        opens = bool(inside & last) and has_branched and segment.kind == "unit" and segment.crosses
        if (
            before is not None
            and "pool" not in (before.kind, segment.kind)
            and inside & last
            and not opens
            and (
                not (has_branched and branches)
                or _widens_between(
                    trunk, before, _last_within(segments, instances, i, inside & last)
                )
            )
        ):
            result[-1] = before.joined(segment, "block")
            has_branched, last = has_branched or branches, inside & last
        else:
            result.append(segment)
            has_branched, last = branches or opens, inside
    return result


def _single(segments: Sequence[Segment], instances: Sequence[set[str]]) -> list[set[str]]:
    """Instances without the modules in which the resolution falls twice, by a pooling alone, say:
    those hold stages."""
    falls = Counter(path for segment in segments if segment.crosses for path in _paths(segment))
    return [{path for path in inside if falls[path] < 2} for inside in instances]


def _last_within(
    segments: Sequence[Segment], instances: Sequence[set[str]], start: int, paths: set[str]
) -> Segment:
    """The last segment, from one on, that lies in the same block instances."""
    end = start
    while end + 1 < len(segments) and instances[end + 1] & paths:
        end += 1
    return segments[end]


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
    around = _paths(pool)
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
