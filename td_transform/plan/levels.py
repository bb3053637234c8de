"""Plan: lay the stages out from coarse to fine, with lifts, merges and transitions."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import Any

from td_transform.analyse.segments import entry_kernel, scope
from td_transform.analyse.siblings import matched_modules
from td_transform.analyse.stages import Stage, Structure, carries_width
from td_transform.analyse.style import form_of
from td_transform.analyse.trunk import Segment
from td_transform.emit.build import Blueprint, parameter_count
from td_transform.plan.copies import Copy, SegmentPlanner
from td_transform.plan.head import plan_head
from td_transform.plan.values import LevelPlan, Options, Part, Plan, SegmentPlan, UnitPlan


@dataclass
class _Level:
    """A level while it is being planned; `width` is that of its lift, `current` of the last tensor."""

    path: str
    stride: int
    width: int
    current: int
    transition: list[Part] = field(default_factory=list)
    merge: UnitPlan | None = None
    stage: list[SegmentPlan] = field(default_factory=list)


class Composer:
    """Plans a top-down network from the structure of a bottom-up one."""

    def __init__(self, structure: Structure, options: Options) -> None:
        self._structure = structure
        self._anatomy = structure.anatomy
        self._options = options
        self._blueprint = Blueprint(structure.trace)
        self._segments = SegmentPlanner(structure.anatomy, options, self._blueprint)
        self._form = form_of(structure)
        self._uniform: int | None = None
        if options.arrangement == "uniform":
            self._uniform = int(statistics.median(map(self._lift_width, structure.stages)))

    def plan(self) -> Plan:
        """The whole plan, from coarse to fine."""
        stages = self._structure.stages
        places = tuple(reversed(stages))
        order = stages if self._options.arrangement == "reversed" else places
        levels: list[LevelPlan] = []
        if self._stride(places[0]) < places[0].stride:
            levels.append(self._opening(order[0], places[0]))
        for k, (stage, place) in enumerate(zip(order, places, strict=True)):
            before = levels[-1] if levels else None
            level = _Level(
                f"levels.{len(levels)}",
                self._stride(place),
                self._lift_width(stage),
                before.width if before else self._lift_width(stage),
            )
            factor = before.stride // level.stride if before else None
            if k:
                self._next_stage(level, stage, place, factor or 1)
            else:
                self._first_stage(level, stage, place, factor)
            self._border(level, order, k)
            levels.append(self._finished(level, stage, place))
        head, warnings = plan_head(self._structure, self._segments, levels[-1].width)
        trace = self._structure.trace
        return Plan(
            type(trace.model).__name__,
            trace.input_size,
            self._options,
            tuple(levels),
            head,
            warnings,
        )

    def _stride(self, place: Stage) -> int:
        """The stride of the level in a stage's place: t = s * output_stride / s_1."""
        finest = self._structure.stages[0].stride
        return place.stride * self._options.output_stride // finest

    def _lift_width(self, stage: Stage) -> int:
        """The channels of a stage's lift: those after its transition."""
        if self._options.arrangement == "uniform" and getattr(self, "_uniform", None):
            return self._uniform or 0
        entry = stage.entry
        before_entry = not self._sets_width(entry) and not entry.crosses
        return self._anatomy.width(entry.start if before_entry else entry.end)

    def _sets_width(self, segment: Segment) -> bool:
        return carries_width(self._anatomy, segment)

    # The parts of a level

    def _opening(self, stage: Stage, place: Stage) -> LevelPlan:
        """The extra lift at the bottom-up model's own coarsest stride."""
        level = _Level("levels.0", place.stride, self._lift_width(stage), 0)
        return replace(self._finished(level, stage, place), made_from=None)

    def _unit(self, name: str, width_in: int, width_out: int, kernel: tuple[int, int]) -> UnitPlan:
        """A unit in the network's own form."""
        form = self._form
        plan = UnitPlan(
            name, width_in, width_out, kernel, form.conv, form.norm, form.activation,
            form.pre_activation,
        )  # fmt: skip
        return replace(plan, parameters=parameter_count(self._blueprint.unit(plan)))

    def _lift(self, level: _Level, place: Stage) -> UnitPlan:
        """A unit in the stem's form, from image channels to the level's width."""
        form = self._form
        kernel = form.stem_kernel
        if all(s.form == "plain" for s in self._structure.stages):
            kernel = entry_kernel(self._anatomy, place.entry)
        plan = UnitPlan(
            f"{level.path}.lift", self._structure.trace.input_size[0], level.width, kernel,
            form.conv, form.stem_norm, form.stem_activation,
        )  # fmt: skip
        return replace(plan, parameters=parameter_count(self._blueprint.unit(plan)))

    def _adapt(self, level: _Level, width: int) -> None:
        """A 1x1 unit on the low-resolution side, where the widths differ."""
        if level.current != width:
            name = f"{level.path}.adapter"
            level.transition.append(self._unit(name, level.current, width, (1, 1)))
            level.current = width

    def _upsample(self, level: _Level, factor: int) -> None:
        level.transition.append(self._segments.upsample(level.path, factor, level.current))

    def _merge(self, level: _Level) -> None:
        level.width = level.current
        width_in = level.width * (1 if self._options.merge == "add" else 2)
        level.merge = self._unit(f"{level.path}.merge.unit", width_in, level.width, (3, 3))

    def _copy(
        self, level: _Level, segment: Segment, *, transition: bool = False, **how: Any
    ) -> None:
        plan = self._segments.plan(self._how(level, segment, **how))
        self._append(level, plan, transition=transition)

    def _append(self, level: _Level, plan: SegmentPlan, *, transition: bool = False) -> None:
        (level.transition if transition else level.stage).append(plan)
        level.current = plan.width_out

    def _how(self, level: _Level, segment: Segment, **how: Any) -> Copy:
        how.setdefault("target", self._uniform)
        return Copy(
            segment, f"{level.path}.stage", level.current, scale=self._uniform is not None, **how
        )

    def _finished(self, level: _Level, stage: Stage, place: Stage) -> LevelPlan:
        return LevelPlan(
            level.stride,
            self._structure.stages.index(stage) + 1,
            self._lift(level, place),
            tuple(level.transition),
            level.merge,
            tuple(level.stage),
        )

    # Stages

    def _first_stage(self, level: _Level, stage: Stage, place: Stage, factor: int | None) -> None:
        """T_1: no transition; in a plain chain its lift is its entry unit."""
        if factor is not None:
            self._upsample(level, factor)
            self._merge(level)
        if stage.form == "plain":
            self._plain_units(level, stage, place, skip=1 if factor is None else 0)
            return
        entry = self._first_block(level, stage)
        if entry is not None:
            self._append(level, entry)
        for segment in stage.rest:
            self._copy(level, segment)

    def _plain_units(self, level: _Level, stage: Stage, place: Stage, *, skip: int = 0) -> None:
        """The units of a plain stage; kernel sizes stay with their resolution."""
        kernels = [entry_kernel(self._anatomy, s) for s in place.segments]
        for i, segment in list(enumerate(stage.segments))[skip:]:
            changed = {}
            if place.form == "plain" and i < len(kernels):
                conv = next(n for n in segment.nodes if self._anatomy.is_learned(n))
                if entry_kernel(self._anatomy, segment) != kernels[i]:
                    changed = {conv: kernels[i]}
            self._copy(level, segment, kernels=changed)

    def _first_block(self, level: _Level, stage: Stage) -> SegmentPlan | None:
        """T_1's first block has the form of the stage's repeated block; a unit that only
        leads to the stage's resolution goes."""
        entry = stage.entry
        if entry.kind == "unit" and entry.crosses:
            return None
        repeated = self._repeated(stage)
        if repeated is not None:
            return self._segments.attempt(self._in_form_of(level, entry, repeated))
        own = self._segments.attempt(self._how(level, entry, drop_identities=True))
        expected = self._uniform or self._anatomy.width(entry.end)
        fits = own is not None and (own.width_out == expected or not entry.crosses)
        return own if fits else None

    def _in_form_of(self, level: _Level, entry: Segment, form: Segment, **how: Any) -> Copy:
        """A copy of another block that stands for the entry and has its layers where they match."""
        modules = matched_modules(self._anatomy, entry, form) or {}
        old, new = self._path(form), self._path(entry)
        rename = (old, new) if old and new and old != new else ("", "entry")
        return self._how(level, form, modules=modules, rename=rename, **how)

    def _repeated(self, stage: Stage) -> Segment | None:
        """The first block that keeps the stage's width."""
        wanted = self._anatomy.width(stage.entry.end)
        for segment in stage.rest:
            widths = {self._anatomy.width(segment.start), self._anatomy.width(segment.end)}
            if segment.kind == "block" and widths == {wanted}:
                return segment
        return None

    def _path(self, segment: Segment) -> str:
        modules = scope(self._anatomy, segment)
        return modules[-1][0] if modules else ""

    def _next_stage(self, level: _Level, stage: Stage, place: Stage, factor: int) -> None:
        """T_2 .. T_n: a transition to the level's width and resolution, the merge, the rest."""
        entry = stage.entry
        if stage.form == "plain":
            self._chain_transition(level, factor)
            self._plain_units(level, stage, place)
            return
        merged_before_entry = False
        if stage.prelude:
            self._prelude_transition(level, stage, factor)
            merged_before_entry = True
        elif entry.crosses:
            if not self._sets_width(entry):
                self._adapt(level, self._uniform or self._anatomy.width(entry.start))
            self._copy(level, entry, transition=True, factor=factor, drop_identities=True)
        elif stage.pools and self._sets_width(entry):
            self._upsample(level, factor)
            self._copy(level, entry, transition=True, drop_identities=True)
        elif stage.pools or not self._sibling_transition(level, stage, factor):
            self._chain_transition(level, factor)
            merged_before_entry = True
        if not merged_before_entry:
            self._merge(level)
        for segment in stage.segments if merged_before_entry else stage.rest:
            self._copy(level, segment)

    def _chain_transition(self, level: _Level, factor: int) -> None:
        self._adapt(level, level.width)
        self._upsample(level, factor)
        self._merge(level)

    def _prelude_transition(self, level: _Level, stage: Stage, factor: int) -> None:
        for segment in stage.prelude:
            self._copy(level, segment, transition=True, target=level.width)
        self._upsample(level, factor)
        self._merge(level)

    def _sibling_transition(self, level: _Level, stage: Stage, factor: int) -> bool:
        """The finest stage's first block takes the form of its siblings' transition blocks."""
        entry = stage.entry
        for sibling in self._structure.stages:
            if sibling.entry.kind != "block" or not sibling.entry.crosses:
                continue
            if matched_modules(self._anatomy, entry, sibling.entry) is None:
                continue
            how = self._in_form_of(
                level, entry, sibling.entry, factor=factor, drop_identities=True, target=level.width
            )
            plan = self._segments.attempt(how)
            if plan is not None and plan.width_out == level.width:
                self._append(level, plan, transition=True)
                return True
        if not self._sets_width(entry):
            return False
        self._upsample(level, factor)
        self._copy(level, entry, transition=True)
        return True

    def _border(self, level: _Level, order: tuple[Stage, ...], k: int) -> None:
        """What stood beside the pooling between two stages (dropout) stays between them."""
        if k + 1 == len(order):
            return
        coarser = order[k + 1] if self._options.arrangement == "reversed" else order[k]
        for pool in coarser.pools:
            kept = [
                n for n in pool.nodes if n.op != "get_attr" and self._anatomy.role(n) == "inert"
            ]
            if kept:
                start = pool.nodes[pool.nodes.index(kept[0]) - 1]
                stride = pool.stride_out
                self._copy(level, Segment("unit", start, tuple(kept), stride, stride))
