"""Analyse: the stages of the bottom-up model, its stem, its head and the form of its units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import fx

from td_transform.analyse.infer import infer
from td_transform.analyse.segments import (
    Layout,
    is_pointwise_unit,
    lay_out,
    uncuttable,
)
from td_transform.analyse.trunk import Anatomy, Segment, analyse
from td_transform.errors import StructureError
from td_transform.operators import Region, Spatial
from td_transform.operators.widths import Width
from td_transform.trace.model import Trace


@dataclass(frozen=True)
class Stage:
    """The part of the trunk at one stride.

    Args:
        stride: input pixels per step (of the coarser axis).
        form: `plain` stages are chains of units, `block` stages have blocks.
        prelude: a pointwise unit that carries the width change before the pooling (DenseNet).
        pools: the poolings that bring the map to this stride.
        entry: the first unit or block; it may downsample itself.
        rest: the units and blocks after it.
    """

    stride: int
    form: Literal["plain", "block"]
    prelude: tuple[Segment, ...]
    pools: tuple[Segment, ...]
    entry: Segment
    rest: tuple[Segment, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (self.entry, *self.rest)


@dataclass(frozen=True)
class Structure:
    """What the analysis found: everything that the plan is made from."""

    anatomy: Anatomy
    layout: Layout
    stem: Segment | None
    stages: tuple[Stage, ...]
    leading: Segment

    @property
    def trace(self) -> Trace:
        return self.anatomy.trace


def structure(trace: Trace) -> Structure:
    """Find stem, stages and head.

    Raises:
        StructureError: there are fewer than two stages, or a region can't be cut.
    """
    anatomy = analyse(trace)
    layout = lay_out(anatomy)
    for segment in layout.segments:
        _check_region(anatomy, segment)
    segments = list(layout.segments)
    leading = next((s for s in segments if s.kind != "pool"), None)
    if leading is None:
        raise _no_stages(anatomy, [])
    stem, body = _split_stem(segments)
    stages = _stages(anatomy, body)
    if len(stages) < 2:
        raise _no_stages(anatomy, stages)
    return Structure(anatomy, layout, stem, tuple(stages), leading)


def _split_stem(segments: list[Segment]) -> tuple[Segment | None, list[Segment]]:
    """The leading unit is a stem if a block is the next that learns; its poolings go with it."""
    later = [s for s in segments[1:] if s.kind != "pool"]
    if segments[0].kind != "unit" or not later or later[0].kind != "block":
        return None, segments
    return segments[0], segments[segments.index(later[0]) :]


def _check_region(anatomy: Anatomy, segment: Segment) -> None:
    """Learned layers of a region run at its strides, not at ones in between."""
    low, high = max(segment.stride_in), max(segment.stride_out)
    strides = {
        max(stride)
        for n in segment.nodes
        if anatomy.is_learned(n) and (stride := anatomy.stride(n)) is not None
    }
    if any(low < s < high for s in strides):
        raise uncuttable(anatomy, segment.start, segment.nodes)


def _stages(anatomy: Anatomy, segments: list[Segment]) -> list[Stage]:
    """Cut where the resolution falls; a pooling belongs to the stage that it leads to."""
    groups: list[tuple[list[Segment], list[Segment]]] = []
    pools: list[Segment] = []
    for segment in segments:
        if segment.kind == "pool":
            pools.append(segment)
        elif pools or segment.crosses or not groups:
            groups.append((pools, [segment]))
            pools = []
        else:
            groups[-1][1].append(segment)
    stages: list[Stage] = []
    for i, (leading_pools, body) in enumerate(groups):
        prelude: tuple[Segment, ...] = ()
        previous = groups[i - 1][1] if i else []
        if _is_prelude(anatomy, previous, leading_pools, body[0]):
            prelude = (previous.pop(),)
            stages[-1] = _stage(anatomy, stages[-1].prelude, stages[-1].pools, previous)
        stages.append(_stage(anatomy, prelude, tuple(leading_pools), body))
    return stages


def _is_prelude(
    anatomy: Anatomy, previous: list[Segment], pools: list[Segment], entry: Segment
) -> bool:
    if len(previous) < 2 or not pools or not is_pointwise_unit(anatomy, previous[-1]):
        return False
    return previous[-2].kind == "block" and not carries_width(anatomy, entry)


def _stage(
    anatomy: Anatomy, prelude: tuple[Segment, ...], pools: tuple[Segment, ...], body: list[Segment]
) -> Stage:
    plain = all(s.kind == "unit" for s in body)
    return Stage(
        int(max(body[-1].stride_out)),
        "plain" if plain else "block",
        prelude,
        pools,
        body[0],
        tuple(body[1:]),
    )


def solve(
    anatomy: Anatomy, segment: Segment, *, passed: frozenset[fx.Node] = frozenset()
) -> tuple[Region, Width]:
    """The widths of a segment as a function of the width ``in`` that flows into it."""
    region = Region()
    dims = (
        Width.of(2),
        region.widths.variable("in", anatomy.width(segment.start)),
        Spatial(0, segment.stride_in[0]),
        Spatial(1, segment.stride_in[1]),
    )
    region.dims[segment.start] = dims
    infer(anatomy.trace, segment.nodes, region, passed=passed)
    return region, region.widths.resolve(region.dims[segment.end][1])


def carries_width(anatomy: Anatomy, segment: Segment) -> bool:
    """Does a segment set its own output width, whatever flows in?"""
    _, out = solve(anatomy, segment)
    return "in" not in out.variables


def _no_stages(anatomy: Anatomy, stages: list[Stage]) -> StructureError:
    strides = [s.stride for s in stages]
    seen = f"one stage at stride {strides[0]}" if strides else "no convolutional stage"
    return StructureError(
        f"model {type(anatomy.trace.model).__name__}",
        seen=f"{seen}: its features are not downsampled between learned layers",
        expected="two or more stages at falling resolution",
        remedy="convert a hierarchical CNN; transformers with one patch embedding and isotropic "
        "networks have no stages to reverse",
    )
