"""Plan: lay the stages out from coarse to fine, with lifts, merges and transitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import fx

from td_transform.analyse import (
    BottomUp,
    Segment,
    Stage,
    behind_unit,
    beside_pooling,
    entry_conv,
    entry_kernel,
    matched_modules,
    scope,
)
from td_transform.errors import TopDownError, UnknownOperatorError, WidthConflictError
from td_transform.options import Options
from td_transform.plan.copies import CopySpec, SegmentPlanner
from td_transform.plan.depth import at_depth_of
from td_transform.plan.head import head_segment, plan_head
from td_transform.plan.level_parts import LevelParts, UnfinishedLevel
from td_transform.plan.order import Order
from td_transform.plan.parts import LevelPlan, SegmentPlan
from td_transform.plan.plan import Plan
from td_transform.plan.resolutions import Resolutions
from td_transform.plan.tokens import with_tokens
from td_transform.plan.uniform import splittable_width, uniform_width
from td_transform.plan.unlike import unlike


class LevelPlanner:
    """Plans a top-down network, level by level; a `slot` is the bottom-up stage whose resolution a
    level takes, its `stage` the one that it is made from.

    Args:
        bottom_up: the analysed model.
        options: how it is turned.
        replaced: the stages, counted from 1 at the finest, whose transition is known not to run
            when it upsamples, and why.
        bound: the numbers of levels at whose resolution the blocks of their stage are known not to
            run, and why: they have those of their slot, as wide and as deep as their stage.
    """

    def __init__(
        self,
        bottom_up: BottomUp,
        options: Options,
        replaced: Mapping[int, TopDownError] | None = None,
        bound: Mapping[int, TopDownError] | None = None,
    ) -> None:
        self._bottom_up = bottom_up
        self._trunk = bottom_up.trunk
        self._options = options
        self._bound = dict(bound or {})
        self._segments = SegmentPlanner(bottom_up, options)
        self._resolutions = Resolutions(bottom_up, options)
        self._order = Order(bottom_up, options, self._resolutions)
        self._replaced = dict(replaced or {})
        self._uniform: int | None = None
        if options.arrangement == "uniform":
            self._uniform = uniform_width(bottom_up.trunk, bottom_up.stages)
        self._parts = LevelParts(bottom_up, options, self._segments)

    def plan(self) -> Plan:
        """The whole plan, from coarse to fine."""
        slots, stages = self._order.slots, self._order.stages
        self._resolutions.check_skipped()
        levels: list[LevelPlan] = []
        if self._order.opens:
            levels.append(self._opening(stages[0], slots[0]))
        for k, (stage, slot) in enumerate(zip(stages, slots, strict=True)):
            is_bound = len(levels) in self._bound
            level = self._begin(stage, slot, levels, is_bound=is_bound)
            source = at_depth_of(self._trunk, slot, stage) if is_bound else stage
            if k:
                self._next_stage(level, source, slot)
            else:
                self._first_stage(level, source, slot)
            self._border(level, stages, k)
            levels.append(self._finished(level, source, slot))
        levels[-1] = self._parts.adapted(levels[-1], head_segment(self._bottom_up))
        head, warnings = plan_head(self._bottom_up, self._segments, levels[-1].width)
        found, head = with_tokens(self._bottom_up, levels, head)
        trace = self._bottom_up.trace
        options = replace(self._options, input_size=trace.model_input_size)
        opaque = tuple(self._segments.opaque.values())
        name = type(trace.model).__name__
        made_from = {level.made_from for level in levels}
        replaced = (why for number, why in self._replaced.items() if number in made_from)
        plan = Plan(
            name, options, found, head, warnings, opaque, trace.notes,
            tuple(f"{why.place}: {why.seen}" for why in replaced),
            tuple(map(self._named, sorted(self._bound))),
            made_size=() if trace.front is None else trace.input_size,
            front=() if trace.front is None else trace.front.steps,
            front_parameters=trace.front_parameters,
        )  # fmt: skip
        unlikes = unlike(self._bottom_up, self._options, plan.layers)
        return replace(plan, warnings=(*self._bottom_up.trace.lost, *unlikes, *warnings))

    def can_bind(self, number: int) -> bool:
        """Would a level be another with the blocks of its slot, and these at their resolution?"""
        return number not in self._bound and self._order.has_another(number)

    def _named(self, number: int) -> str:
        """What is bound, and why."""
        stage, slot = map(self._order.number, self._order.of_level(number))
        why = self._bound[number]
        return (
            f"level {number} has the blocks of stage {slot}, with the width and depth of stage "
            f"{stage}, whose own don't run at this resolution ({why.place}: {why.seen})"
        )

    def _begin(
        self, stage: Stage, slot: Stage, before: Sequence[LevelPlan], *, is_bound: bool
    ) -> UnfinishedLevel:
        path, strides = f"levels.{len(before)}", self._resolutions.strides(slot)
        scaled = self._uniform
        if is_bound:
            scaled = splittable_width(self._trunk, [slot], stage.width)
        width = scaled or stage.width
        if not before:
            return UnfinishedLevel(path, strides, width, width, scaled=scaled)
        factors = self._resolutions.whole(slot, before[-1].strides, strides)
        return UnfinishedLevel(path, strides, width, before[-1].width, factors, scaled)

    def _opening(self, stage: Stage, slot: Stage) -> LevelPlan:
        """The extra lift at the bottom-up model's own coarsest stride."""
        level = UnfinishedLevel("levels.0", slot.strides, self._uniform or stage.width, 0)
        return replace(self._finished(level, stage, slot), made_from=None)

    def _finished(self, level: UnfinishedLevel, stage: Stage, slot: Stage) -> LevelPlan:
        return LevelPlan(
            level.path,
            level.strides,
            self._order.number(stage),
            self._parts.lift(level, slot),
            tuple(level.transition),
            level.merge,
            tuple(level.stage),
        )

    # Stages

    def _first_stage(self, level: UnfinishedLevel, stage: Stage, slot: Stage) -> None:
        """T_1: no transition; in a plain chain its lift is its entry unit."""
        if level.factors is not None:
            self._parts.upsample(level)
            self._parts.merge(level)
        if stage.is_chain:
            if level.factors is None:
                self._behind_lift(level, stage.entry)
            self._units(level, stage, slot, skip=1 if level.factors is None else 0)
            return
        self._first_block(level, stage)
        self._rest(level, stage, stage.rest)

    def _behind_lift(self, level: UnfinishedLevel, entry: Segment) -> None:
        """What an entry unit has behind its convolution, norm and activation, which the lift has."""
        rest = behind_unit(self._trunk, entry)
        if rest is None:
            return
        before, after = (self._trunk.width(node) for node in (rest.start, rest.end))
        level.width = level.current = level.width * before // after
        self._parts.append(level, self._parts.spec(level, rest))

    def _next_stage(self, level: UnfinishedLevel, stage: Stage, slot: Stage) -> None:
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
        self._rest(level, stage, rest)

    def _rest(self, level: UnfinishedLevel, stage: Stage, segments: Sequence[Segment]) -> None:
        """Copies of a stage's last segments; what is there already gets layers of its own."""
        copies = Counter(stage.segments[: len(stage.segments) - len(segments)])
        for segment in segments:
            spec = self._parts.spec(level, segment)
            again = copies[segment]
            self._parts.append(level, replace(spec, part=f"repeat_{again}") if again else spec)
            copies[segment] += 1

    def _units(self, level: UnfinishedLevel, stage: Stage, slot: Stage, *, skip: int = 0) -> None:
        """The units of a plain stage; kernel sizes stay with their resolution."""
        kernels = [entry_kernel(self._trunk, s) for s in slot.segments] if slot.is_chain else []
        for i, segment in list(enumerate(stage.segments))[skip:]:
            changed: Mapping[fx.Node, tuple[int, ...]] = {}
            conv = entry_conv(self._trunk, segment)
            if i < len(kernels) and conv is not None:
                own = entry_kernel(self._trunk, segment)
                changed = {conv: kernels[i]} if own != kernels[i] else {}
            self._parts.append(level, replace(self._parts.spec(level, segment), kernels=changed))

    # Entries: each returns the segments of the stage that are left to copy

    def _enter_chain(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        self._parts.adapt(level, level.width)
        self._parts.upsample(level)
        self._parts.merge(level)
        return stage.segments

    def _enter_prelude(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        for segment in stage.prelude:
            self._parts.cross(level, replace(self._parts.spec(level, segment), target=level.width))
        self._parts.upsample(level)
        self._parts.merge(level)
        return stage.segments

    def _enter_crossing(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        """A block that lowers the resolution by means that can't be taken from it is replaced by what
        a plain chain has, where others of its stage stay."""
        current = level.current
        if self._order.number(stage) not in self._replaced:
            try:
                return self._cross(level, stage)
            except (UnknownOperatorError, WidthConflictError) as error:
                if not stage.has_repeated_blocks:
                    raise
                self._replaced[self._order.number(stage)] = error
        level.transition.clear()
        level.current = current
        self._parts.adapt(level, level.scaled or self._trunk.width(stage.entry.end))
        self._parts.upsample(level)
        self._parts.merge(level)
        return stage.rest

    def _cross(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        if not stage.entry_sets_width:
            self._parts.adapt(level, self._entry_width(level, stage))
        spec = replace(
            self._parts.spec(level, stage.entry), factors=level.factors, drop_identities=True
        )
        self._parts.cross(level, spec)
        self._parts.upsample_rest(level, stage.entry)
        self._parts.merge(level)
        return stage.rest

    def _entry_width(self, level: UnfinishedLevel, stage: Stage) -> int:
        """What flows into an entry that multiplies it (a grouped convolution with several filters a
        channel) so that the level's width comes out."""
        start, end = (self._trunk.width(node) for node in (stage.entry.start, stage.entry.end))
        if level.scaled is None or level.scaled * start % end:
            return level.scaled or start
        return level.scaled * start // end

    def _enter_pooled(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        self._parts.upsample(level)
        self._parts.cross(
            level, replace(self._parts.spec(level, stage.entry), drop_identities=True)
        )
        self._parts.merge(level)
        return stage.rest

    def _enter_as_sibling(self, level: UnfinishedLevel, stage: Stage) -> Sequence[Segment]:
        """The finest stage's first block takes the form of its siblings' transition blocks."""
        is_replaced = self._order.number(stage) in self._replaced
        for form in () if is_replaced else stage.forms:
            spec = replace(
                self._in_form_of(level, stage.entry, form),
                factors=level.factors, drop_identities=True, target=level.width,
            )  # fmt: skip
            try:
                plan = self._segments.attempt(spec)
            except UnknownOperatorError:  # it can't do without its stride
                continue
            if plan is not None and plan.width_out == level.width:
                level.transition.append(plan)
                level.current = plan.width_out
                self._parts.upsample_rest(level, form)
                self._parts.merge(level)
                return stage.rest
        return (self._enter_pooled if stage.entry_sets_width else self._enter_chain)(level, stage)

    def _first_block(self, level: UnfinishedLevel, stage: Stage) -> None:
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
            self._parts.append(level, spec)
            return
        spec = replace(self._parts.spec(level, entry), drop_identities=True)
        plan = self._segments.attempt(spec)
        expected = level.scaled or self._trunk.width(entry.end)
        # a stage of one block is nothing without it
        stays = not entry.crosses or not stage.rest
        if plan is not None and plan.width_out > expected and stays:
            narrower = self._behind_narrower_lift(level, spec, plan.width_out - expected)
            plan = narrower or self._in_form_of_any(level, entry, expected) or plan
        if plan is None and stays:
            self._parts.append(level, spec)
        elif plan is not None and (plan.width_out == expected or stays):
            level.stage.append(plan)
            level.current = plan.width_out

    def _behind_narrower_lift(
        self, level: UnfinishedLevel, spec: CopySpec, added: int
    ) -> SegmentPlan | None:
        """The first block where it adds channels (a padded shortcut): the lift has fewer by these."""
        width = level.width - added
        plan = self._segments.attempt(replace(spec, width_in=width)) if width > 0 else None
        if plan is not None:
            level.width = level.current = width
        return plan

    def _in_form_of_any(
        self, level: UnfinishedLevel, entry: Segment, width: int
    ) -> SegmentPlan | None:
        """The first block in the form of one of any stage that keeps its width, where it comes out so."""
        width_of = self._trunk.width
        for form in (segment for stage in self._bottom_up.stages for segment in stage.segments):
            if form.kind == "block" and width_of(form.start) == width_of(form.end):
                plan = self._segments.attempt(self._in_form_of(level, entry, form))
                if plan is not None and plan.width_out == width:
                    return plan
        return None

    def _in_form_of(self, level: UnfinishedLevel, entry: Segment, form: Segment) -> CopySpec:
        """A copy of another block that stands for the entry and has its layers where they match."""
        modules = matched_modules(self._trunk, entry, form) or {}
        old, new = self._path(form), self._path(entry)
        rename = (old, new) if old and new and old != new else ("", "entry")
        shared = frozenset(
            str(n.target) for n in entry.nodes if n.op in ("call_module", "get_attr")
        )
        spec = self._parts.spec(level, form)
        return replace(spec, modules=modules, rename=rename, shared=shared)

    def _repeated(self, stage: Stage) -> Segment | None:
        """The first block that keeps the stage's width."""
        wanted = self._trunk.width(stage.entry.end)
        for segment in stage.rest:
            widths = {self._trunk.width(segment.start), self._trunk.width(segment.end)}
            if segment.kind == "block" and widths == {wanted}:
                return segment
        return None

    def _path(self, segment: Segment) -> str:
        layers = {node.target for node in segment.nodes}  # a unit's only one is no module around it
        modules = [path for path, _ in scope(self._trunk, segment) if path not in layers]
        return modules[-1] if modules else ""

    def _border(self, level: UnfinishedLevel, stages: Sequence[Stage], k: int) -> None:
        """What stood beside the pooling between two stages (dropout) stays between them."""
        if k + 1 == len(stages):
            return
        coarser = stages[k + 1] if self._options.arrangement == "reversed" else stages[k]
        for pool in coarser.pools:
            between = beside_pooling(self._trunk, pool)
            if between is not None:
                self._parts.append(level, self._parts.spec(level, between))
