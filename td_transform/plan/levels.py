"""Plan: lay the stages out from coarse to fine, with lifts, merges and transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from torch import fx

from td_transform.analyse import (
    BottomUp,
    Segment,
    Stage,
    entry_conv,
    entry_kernel,
    is_coarser,
    matched_modules,
    pinned_inflow,
    scope,
)
from td_transform.errors import StructureError, TopDownError
from td_transform.layers import Merge, is_own, name_of
from td_transform.layers.dimensions import agreed
from td_transform.options import Options
from td_transform.plan.copies import CopySpec, SegmentPlanner
from td_transform.plan.head import plan_head
from td_transform.plan.parts import LevelPlan, OwnPlan, Part, UnitPlan
from td_transform.plan.plan import Plan
from td_transform.plan.uniform import uniform_width


@dataclass
class _Level:
    """A level while it is being planned.

    Args:
        path: its place in the emitted module.
        strides: input pixels per step, along each axis.
        width: channels of its lift.
        current: channels of the last tensor.
        factors: of the upsampling from the coarser level; None where there is none.
    """

    path: str
    strides: tuple[int, ...]
    width: int
    current: int
    factors: tuple[int, ...] | None = None
    transition: list[Part] = field(default_factory=list)
    merge: UnitPlan | OwnPlan | None = None
    stage: list[Part] = field(default_factory=list)


class LevelPlanner:
    """Plans a top-down network, level by level; a `slot` is the bottom-up stage whose resolution a
    level takes, its `stage` the one that it is made from."""

    def __init__(self, bottom_up: BottomUp, options: Options) -> None:
        self._bottom_up = bottom_up
        self._trunk = bottom_up.trunk
        self._options = options
        self._segments = SegmentPlanner(bottom_up, options)
        self._style = bottom_up.style
        self._uniform: int | None = None
        if options.arrangement == "uniform":
            self._uniform = uniform_width(bottom_up.trunk, bottom_up.stages)

    def plan(self) -> Plan:
        """The whole plan, from coarse to fine."""
        slots = tuple(reversed(self._bottom_up.stages))
        self._check_skipped([max(self._strides(slot)) for slot in slots], slots[0].stride)
        stages = self._bottom_up.stages if self._options.arrangement == "reversed" else slots
        levels: list[LevelPlan] = []
        if is_coarser(slots[0].strides, self._strides(slots[0])):
            levels.append(self._opening(stages[0], slots[0]))
        for k, (stage, slot) in enumerate(zip(stages, slots, strict=True)):
            level = self._begin(stage, slot, levels)
            if k:
                self._next_stage(level, stage, slot)
            else:
                self._first_stage(level, stage, slot)
            self._border(level, stages, k)
            levels.append(self._finished(level, stage, slot))
        head, warnings = plan_head(self._bottom_up, self._segments, levels[-1].width)
        trace = self._bottom_up.trace
        options = replace(self._options, input_size=trace.input_size)
        opaque = tuple(self._segments.opaque.values())
        name = type(trace.model).__name__
        return Plan(name, options, tuple(levels), head, warnings, opaque, trace.notes)

    def _strides(self, slot: Stage) -> tuple[int, ...]:
        """The strides of the level in a slot: t = s * o / s_1 along every axis.

        o is the output stride, but s_1 along an axis that the bottom-up model has finer than that;
        beyond s_1 on the coarsest axis all of its resolutions fall alike.
        """
        wanted, finest = self._options.output_stride, self._bottom_up.stages[0].strides
        beyond = max(Fraction(1), Fraction(wanted, max(finest)))
        last = tuple(int(min(wanted, s) * beyond) for s in finest)
        scaled = tuple(s * o for s, o in zip(slot.strides, last, strict=True))
        return self._whole(slot, scaled, finest)

    def _whole(self, slot: Stage, strides: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
        """One number divided by another, along each axis."""
        if any(s % d for s, d in zip(strides, by, strict=True)):
            raise self._no_ratio(slot)
        return tuple(s // d for s, d in zip(strides, by, strict=True))

    def _no_ratio(self, slot: Stage) -> StructureError:
        stages = self._bottom_up.stages
        steps = ", ".join(agreed(stage.strides) for stage in stages)
        return StructureError(
            self._trunk.trace.place(slot.entry.start),
            seen=f"stages at the strides {steps}, of which not each is a multiple of the one before "
            f"at output_stride={self._options.output_stride}",
            expected="maps that grow by whole factors",
            remedy=f"pass output_stride={stages[0].stride}, the bottom-up model's own, or convert a "
            "network whose strides are multiples of each other",
        )

    def _check_skipped(self, strides: Sequence[int], coarsest: int) -> None:
        """Only a level that a coarser one leads to can do without its lift."""
        levels = [coarsest, *strides] if strides[0] < coarsest else strides
        for stride in self._options.skip_levels:
            if stride in levels[1:]:
                continue
            is_first = stride == levels[0]
            finer = " or ".join(map(str, levels[1:]))
            raise TopDownError(
                "argument 'skip_levels'",
                seen=f"stride {stride}, " + ("the coarsest level's" if is_first else "no level's"),
                expected=f"strides of this network's finer levels: {finer}",
                remedy="leave it out" + (": the network starts from that level" if is_first else ""),
            )  # fmt: skip

    def _is_skipped(self, level: _Level) -> bool:
        return max(level.strides) in self._options.skip_levels

    # The parts of a level

    def _begin(self, stage: Stage, slot: Stage, before: Sequence[LevelPlan]) -> _Level:
        path, strides = f"levels.{len(before)}", self._strides(slot)
        width = self._uniform or stage.width
        if not before:
            return _Level(path, strides, width, width)
        factors = self._whole(slot, before[-1].strides, strides)
        return _Level(path, strides, width, before[-1].width, factors)

    def _opening(self, stage: Stage, slot: Stage) -> LevelPlan:
        """The extra lift at the bottom-up model's own coarsest stride."""
        level = _Level("levels.0", slot.strides, self._uniform or stage.width, 0)
        return replace(self._finished(level, stage, slot), made_from=None)

    def _unit(self, name: str, width_in: int, width_out: int, kernel: tuple[int, ...]) -> UnitPlan:
        """A unit in the network's own style."""
        style = self._style
        return UnitPlan(
            name, width_in, width_out, kernel, style.conv, style.norm, style.activation,
            style.pre_activation, style.norm in style.channels_last,
        )  # fmt: skip

    def _lift(self, level: _Level, slot: Stage) -> UnitPlan | OwnPlan | None:
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
            norm_channels_last=style.stem_norm in style.channels_last,
        )  # fmt: skip
        lift = self._options.lift
        return unit if lift is None else OwnPlan(unit.name, name_of(lift), unit)

    def _adapt(self, level: _Level, width: int) -> None:
        """A 1x1 unit on the low-resolution side, where the widths differ."""
        if level.current != width:
            name = f"{level.path}.adapter"
            level.transition.append(self._unit(name, level.current, width, self._kernel(1)))
            level.current = width

    def _upsample(self, level: _Level) -> None:
        factors = level.factors or self._kernel(1)
        name = f"{level.path}.upsample"
        level.transition.append(self._segments.upsample(name, factors, level.current))

    def _upsample_rest(self, level: _Level, crossed: Segment) -> None:
        """Along the axes that a transition's block, taken from another stage, doesn't change."""
        changes = zip(crossed.stride_in, crossed.stride_out, strict=True)
        rest = tuple(
            1 if after > before else factor
            for factor, (before, after) in zip(level.factors or (), changes, strict=True)
        )
        if any(factor > 1 for factor in rest):
            name = f"{level.path}.upsample_rest"
            level.transition.append(self._segments.upsample(name, rest, level.current))

    def _merge(self, level: _Level) -> None:
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

    def _spec(self, level: _Level, segment: Segment) -> CopySpec:
        return CopySpec(
            segment,
            level.path,
            level.current,
            target=self._uniform,
            scale=self._uniform is not None,
        )

    def _append(self, level: _Level, spec: CopySpec) -> None:
        self._place(level, level.stage, spec)

    def _cross(self, level: _Level, spec: CopySpec) -> None:
        """A copy that belongs to the transition."""
        self._place(level, level.transition, spec)

    def _place(self, level: _Level, parts: list[Part], spec: CopySpec) -> None:
        """A copy, behind a 1x1 unit where an opaque operator fixes another width than flows in."""
        fixed = pinned_inflow(self._trunk, spec.segment) if self._uniform is None else None
        if fixed is not None and fixed != level.current:
            number = sum(isinstance(part, UnitPlan) for part in (*level.transition, *level.stage))
            name = f"{level.path}.adapter_{number}" if number else f"{level.path}.adapter"
            parts.append(self._unit(name, level.current, fixed, self._kernel(1)))
            level.current = fixed
            spec = replace(spec, width_in=fixed)
        plan = self._segments.plan(spec)
        parts.append(plan)
        level.current = plan.width_out

    def _finished(self, level: _Level, stage: Stage, slot: Stage) -> LevelPlan:
        return LevelPlan(
            level.path,
            level.strides,
            self._bottom_up.stages.index(stage) + 1,
            self._lift(level, slot),
            tuple(level.transition),
            level.merge,
            tuple(level.stage),
        )

    # Stages

    def _first_stage(self, level: _Level, stage: Stage, slot: Stage) -> None:
        """T_1: no transition; in a plain chain its lift is its entry unit."""
        if level.factors is not None:
            self._upsample(level)
            self._merge(level)
        if stage.is_chain:
            self._units(level, stage, slot, skip=1 if level.factors is None else 0)
            return
        self._first_block(level, stage)
        for segment in stage.rest:
            self._append(level, self._spec(level, segment))

    def _next_stage(self, level: _Level, stage: Stage, slot: Stage) -> None:
        """T_2 .. T_n: a transition to the level's width and resolution, the merge, the rest."""
        enter = {
            "chain": self._enter_chain,
            "prelude": self._enter_prelude,
            "crossing": self._enter_crossing,
            "pooled": self._enter_pooled,
            "sibling": self._enter_as_sibling,
        }[stage.entry_kind]
        rest = enter(level, stage)
        if stage.is_chain:
            self._units(level, stage, slot)
            return
        for segment in rest:
            self._append(level, self._spec(level, segment))

    def _units(self, level: _Level, stage: Stage, slot: Stage, *, skip: int = 0) -> None:
        """The units of a plain stage; kernel sizes stay with their resolution."""
        kernels = [entry_kernel(self._trunk, s) for s in slot.segments] if slot.is_chain else []
        for i, segment in list(enumerate(stage.segments))[skip:]:
            changed: Mapping[fx.Node, tuple[int, ...]] = {}
            conv = entry_conv(self._trunk, segment)
            if i < len(kernels) and conv is not None:
                own = entry_kernel(self._trunk, segment)
                changed = {conv: kernels[i]} if own != kernels[i] else {}
            self._append(level, replace(self._spec(level, segment), kernels=changed))

    # Entries: each returns the segments of the stage that are left to copy

    def _enter_chain(self, level: _Level, stage: Stage) -> Sequence[Segment]:
        self._adapt(level, level.width)
        self._upsample(level)
        self._merge(level)
        return stage.segments

    def _enter_prelude(self, level: _Level, stage: Stage) -> Sequence[Segment]:
        for segment in stage.prelude:
            self._cross(level, replace(self._spec(level, segment), target=level.width))
        self._upsample(level)
        self._merge(level)
        return stage.segments

    def _enter_crossing(self, level: _Level, stage: Stage) -> Sequence[Segment]:
        if not stage.entry_sets_width:
            self._adapt(level, self._entry_width(stage))
        spec = replace(self._spec(level, stage.entry), factors=level.factors, drop_identities=True)
        self._cross(level, spec)
        self._upsample_rest(level, stage.entry)
        self._merge(level)
        return stage.rest

    def _entry_width(self, stage: Stage) -> int:
        """What flows into an entry that multiplies it (a grouped convolution with several filters a
        channel) so that the level's width comes out."""
        start, end = (self._trunk.width(node) for node in (stage.entry.start, stage.entry.end))
        if self._uniform is None or self._uniform * start % end:
            return self._uniform or start
        return self._uniform * start // end

    def _enter_pooled(self, level: _Level, stage: Stage) -> Sequence[Segment]:
        self._upsample(level)
        self._cross(level, replace(self._spec(level, stage.entry), drop_identities=True))
        self._merge(level)
        return stage.rest

    def _enter_as_sibling(self, level: _Level, stage: Stage) -> Sequence[Segment]:
        """The finest stage's first block takes the form of its siblings' transition blocks."""
        for form in stage.forms:
            spec = replace(
                self._in_form_of(level, stage.entry, form),
                factors=level.factors, drop_identities=True, target=level.width,
            )  # fmt: skip
            plan = self._segments.attempt(spec)
            if plan is not None and plan.width_out == level.width:
                level.transition.append(plan)
                level.current = plan.width_out
                self._upsample_rest(level, form)
                self._merge(level)
                return stage.rest
        return (self._enter_pooled if stage.entry_sets_width else self._enter_chain)(level, stage)

    def _first_block(self, level: _Level, stage: Stage) -> None:
        """T_1's first block has the form of the stage's repeated block; a unit that only
        leads to the stage's resolution goes."""
        entry = stage.entry
        if entry.kind == "unit" and entry.crosses:
            return
        repeated = self._repeated(stage)
        if repeated is not None:
            spec = self._in_form_of(level, entry, repeated)
            if self._segments.attempt(spec) is None:
                spec = replace(spec, modules={}, rename=("", "entry"))
            self._append(level, spec)
            return
        spec = replace(self._spec(level, entry), drop_identities=True)
        plan = self._segments.attempt(spec)
        expected = self._uniform or self._trunk.width(entry.end)
        if plan is None and not entry.crosses:
            self._append(level, spec)
        elif plan is not None and (plan.width_out == expected or not entry.crosses):
            level.stage.append(plan)
            level.current = plan.width_out

    def _in_form_of(self, level: _Level, entry: Segment, form: Segment) -> CopySpec:
        """A copy of another block that stands for the entry and has its layers where they match."""
        modules = matched_modules(self._trunk, entry, form) or {}
        old, new = self._path(form), self._path(entry)
        rename = (old, new) if old and new and old != new else ("", "entry")
        return replace(self._spec(level, form), modules=modules, rename=rename)

    def _repeated(self, stage: Stage) -> Segment | None:
        """The first block that keeps the stage's width."""
        wanted = self._trunk.width(stage.entry.end)
        for segment in stage.rest:
            widths = {self._trunk.width(segment.start), self._trunk.width(segment.end)}
            if segment.kind == "block" and widths == {wanted}:
                return segment
        return None

    def _path(self, segment: Segment) -> str:
        modules = scope(self._trunk, segment)
        return modules[-1][0] if modules else ""

    def _border(self, level: _Level, stages: Sequence[Stage], k: int) -> None:
        """What stood beside the pooling between two stages (dropout) stays between them."""
        if k + 1 == len(stages):
            return
        coarser = stages[k + 1] if self._options.arrangement == "reversed" else stages[k]
        for pool in coarser.pools:
            kept = [n for n in pool.nodes if self._trunk.keeps_shape(n)]
            if kept:
                start = self._trunk.call(kept[0]).input
                stride = pool.stride_out
                between = Segment("unit", start, tuple(kept), stride, stride)
                self._append(level, self._spec(level, between))
