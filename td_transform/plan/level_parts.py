"""Plan: what a level is made of: its lift, transition, merge and copies of a stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from td_transform.analyse import BottomUp, Segment, Stage, entry_kernel, pinned_inflow
from td_transform.layers import Merge, is_own, name_of
from td_transform.options import Options
from td_transform.plan.copies import CopySpec, SegmentPlanner
from td_transform.plan.parts import LevelPlan, OwnPlan, Part, UnitPlan


@dataclass
class UnfinishedLevel:
    """A level while it is being planned.

    Args:
        path: its place in the emitted module.
        strides: input pixels per step, along each axis.
        width: channels of its lift.
        current: channels of the last tensor.
        factors: of the upsampling from the coarser level; None where there is none.
        scaled: the one width that its blocks are scaled to; None where they keep their own.
    """

    path: str
    strides: tuple[int, ...]
    width: int
    current: int
    factors: tuple[int, ...] | None = None
    scaled: int | None = None
    transition: list[Part] = field(default_factory=list)
    merge: UnitPlan | OwnPlan | None = None
    stage: list[Part] = field(default_factory=list)


class LevelParts:
    """Adds to a level, and keeps count of the channels that flow on.

    Args:
        bottom_up: the analysed model.
        options: how it is turned.
        segments: plans copies of stretches of the model.
    """

    def __init__(self, bottom_up: BottomUp, options: Options, segments: SegmentPlanner) -> None:
        self._bottom_up = bottom_up
        self._trunk = bottom_up.trunk
        self._style = bottom_up.style
        self._options = options
        self._segments = segments

    def _unit(self, name: str, width_in: int, width_out: int, kernel: tuple[int, ...]) -> UnitPlan:
        """A unit in the network's own style."""
        style = self._style
        return UnitPlan(
            name, width_in, width_out, kernel, style.conv, style.norm, style.activation,
            style.pre_activation, style.norm in style.channels_last, style.norm_last,
        )  # fmt: skip

    def lift(self, level: UnfinishedLevel, slot: Stage) -> UnitPlan | OwnPlan | None:
        """A unit in the stem's style, from the image's channels (as preprocessed) to the level's width."""
        if self._is_skipped(level):
            return None
        style = self._style
        kernel = style.stem_kernel
        if all(stage.is_chain for stage in self._bottom_up.stages):
            kernel = entry_kernel(self._trunk, slot.entry)
        unit = UnitPlan(
            f"{level.path}.lift", self._trunk.width(self._bottom_up.layout.image), level.width, kernel,
            style.conv, style.stem_norm, style.stem_activation,
            norm_channels_last=style.stem_norm in style.channels_last, norm_last=style.norm_last,
        )  # fmt: skip
        lift = self._options.lift
        return unit if lift is None else OwnPlan(unit.name, name_of(lift), unit)

    def adapt(self, level: UnfinishedLevel, width: int) -> None:
        """A 1x1 unit on the low-resolution side, where the widths differ."""
        if level.current != width:
            name = f"{level.path}.adapter"
            level.transition.append(self._unit(name, level.current, width, self._kernel(1)))
            level.current = width

    def adapted(self, level: LevelPlan, head: Segment) -> LevelPlan:
        """The last level with a 1x1 unit, where an opaque operator in the head fixes another width."""
        fixed = pinned_inflow(self._trunk, head)
        if fixed is None or fixed == level.width:
            return level
        unit = self._unit(f"{level.path}.adapter_to_head", level.width, fixed, self._kernel(1))
        return replace(level, stage=(*level.stage, unit))

    def upsample(self, level: UnfinishedLevel) -> None:
        factors = level.factors or self._kernel(1)
        name = f"{level.path}.upsample"
        level.transition.append(self._segments.upsample(name, factors, level.current))

    def upsample_rest(self, level: UnfinishedLevel, crossed: Segment) -> None:
        """Along the axes that a transition's block, taken from another stage, doesn't change."""
        changes = zip(crossed.stride_in, crossed.stride_out, strict=True)
        rest = tuple(
            1 if after > before else factor
            for factor, (before, after) in zip(level.factors or (), changes, strict=True)
        )
        if any(factor > 1 for factor in rest):
            name = f"{level.path}.upsample_rest"
            level.transition.append(self._segments.upsample(name, rest, level.current))

    def merge(self, level: UnfinishedLevel) -> None:
        if self._is_skipped(level):
            return
        level.width = width = level.current
        path, merge = f"{level.path}.merge", self._options.merge
        if is_own(merge):
            instead = self._unit(path, width, width, self._kernel(3))
            level.merge = OwnPlan(path, name_of(merge), instead)
        else:
            width_in = Merge.width(merge, width)
            level.merge = self._unit(f"{path}.unit", width_in, width, self._kernel(3))

    def _kernel(self, side: int) -> tuple[int, ...]:
        return (side,) * self._trunk.count

    def spec(self, level: UnfinishedLevel, segment: Segment) -> CopySpec:
        return CopySpec(
            segment,
            level.path,
            level.current,
            target=level.scaled,
            scale=level.scaled is not None,
        )

    def append(self, level: UnfinishedLevel, spec: CopySpec) -> None:
        self._place(level, level.stage, spec)

    def cross(self, level: UnfinishedLevel, spec: CopySpec) -> None:
        """A copy that belongs to the transition."""
        self._place(level, level.transition, spec)

    def _place(self, level: UnfinishedLevel, parts: list[Part], spec: CopySpec) -> None:
        """A copy, behind a 1x1 unit where an opaque operator fixes another width than flows in."""
        fixed = pinned_inflow(self._trunk, spec.segment) if level.scaled is None else None
        if fixed is not None and fixed != level.current:
            number = sum(isinstance(part, UnitPlan) for part in (*level.transition, *level.stage))
            name = f"{level.path}.adapter_{number}" if number else f"{level.path}.adapter"
            parts.append(self._unit(name, level.current, fixed, self._kernel(1)))
            level.current = fixed
            spec = replace(spec, width_in=fixed)
        plan = self._segments.plan(spec)
        parts.append(plan)
        level.current = plan.width_out

    def _is_skipped(self, level: UnfinishedLevel) -> bool:
        return max(level.strides) in self._options.skip_levels
