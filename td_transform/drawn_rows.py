"""What the drawing of a network says: a row for each stage or level, from the image to the logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from td_transform.analyse import BottomUp, Stage, entry_kernel
from td_transform.layers import name_of
from td_transform.plan import LevelPlan, OwnPlan, Part, Plan, SegmentPlan, UnitPlan, UpsamplePlan


@dataclass(frozen=True)
class Row:
    """A box and what leads to it; `before` happens between the box above and this one, `stride` is
    that of its coarsest axis."""

    name: str
    facts: Sequence[str]
    stride: int | None = None
    width: int = 0
    stage: int | None = None
    before: str = ""
    image: tuple[str, int] | None = None
    lift: str = ""
    merge: str = ""


def bottom_up_rows(analysed: BottomUp) -> list[Row]:
    """The stem, the stages from fine to coarse, and the head."""
    width_of, values = analysed.trunk.width, analysed.trace.values
    rows: list[Row] = []
    strides = (1,) * analysed.trunk.count
    if (stem := analysed.stem) is not None:
        strides, width = tuple(map(int, stem.stride_out)), width_of(stem.end)
        kernel = by(entry_kernel(analysed.trunk, stem))
        facts = (
            _map(strides, analysed.trunk.map_size(stem.end)),
            f"{width} channels",
            f"{kernel} unit",
        )
        rows.append(Row("stem", facts, max(strides), width))
    for i, stage in enumerate(analysed.stages):
        rows.append(_stage_row(analysed, stage, i, strides))
        strides = stage.strides
    head, classes = analysed.layout.head_start, values[analysed.trunk.tensors[-1]].shape[-1]
    rows[0] = replace(rows[0], image=(by(analysed.trace.input_size[1:]), 1))
    return [*rows, Row("head", (f"{width_of(head)} channels → {classes} logits",))]


def _stage_row(analysed: BottomUp, stage: Stage, index: int, strides: tuple[int, ...]) -> Row:
    widths = [analysed.trunk.width(segment.end) for segment in stage.segments]
    facts = (
        _map(stage.strides, analysed.trunk.map_size(stage.segments[-1].end)),
        _channels(widths),
        ", ".join(_counted(part.kind for part in (*stage.prelude, *stage.segments))),
    )
    # a stem's pooling belongs to no stage: the first stage's stride differs without a crossing
    how = f"in its first {stage.entry.kind}" if stage.entry.crosses else "by pooling"
    factors = [after // before for after, before in zip(stage.strides, strides, strict=True)]
    before = f"÷{_times(factors)} {how}" if max(factors) > 1 else ""
    return Row(f"S{index + 1}", facts, stage.stride, widths[-1], index, before)


def top_down_rows(analysed: BottomUp, plan: Plan) -> list[Row]:
    """The levels from coarse to fine, and the head."""
    segments = analysed.layout.segments
    kinds = {segment.end.name: segment.kind for segment in segments if segment.kind != "pool"}
    opened = plan.levels[0].made_from is None
    rows = [
        _level_row(plan, level, (i, i + (not opened)), kinds) for i, level in enumerate(plan.levels)
    ]
    ends = f"{plan.head.width_in} channels → {plan.head.width_out} logits"
    return [*rows, Row("head", (ends,))]


def _level_row(
    plan: Plan, level: LevelPlan, numbers: tuple[int, int], kinds: Mapping[str, str]
) -> Row:
    sides = zip(plan.image_size[1:], level.strides, strict=True)
    size = [-(-side // stride) for side, stride in sides]
    behind_lift = (p for p in level.parts if p is not level.lift)
    widths = [p.width_out for p in behind_lift if not isinstance(p, UpsamplePlan)]
    copies = (p.end for p in level.parts if isinstance(p, SegmentPlan) and p.end in kinds)
    # without a merge the stage starts with its lift
    learned = ["lift"] if level.made_from and not level.merge else []
    facts = (
        f"levels.{numbers[0]}, {_map(level.strides, size)}",
        _channels(widths or [level.width]),
        ", ".join([*learned, *_counted(kinds[end] for end in copies)]),
    )
    return Row(
        f"T{numbers[1]} from S{level.made_from}" if level.made_from else "lift",
        facts,
        level.stride,
        level.width,
        level.made_from and level.made_from - 1,
        ", ".join(_step(part, plan, kinds) for part in level.transition),
        (by(size), level.stride) if level.lift else None,
        f"lift {_kind(level.lift)}" if level.lift else "",
        f"merge\n{_kind(level.merge)}" if level.merge else "",
    )


def _kind(unit: UnitPlan | OwnPlan) -> str:
    """The kernel of a unit, the name of one of the user's own."""
    return by(unit.kernel) if isinstance(unit, UnitPlan) else unit.made_by.rpartition(":")[2]


def _step(part: Part, plan: Plan, kinds: Mapping[str, str]) -> str:
    """One part of a transition in words."""
    if isinstance(part, UpsamplePlan):
        return f"×{_times(part.factors)} {name_of(plan.options.upsample)}"
    widths = f" {part.width_in} → {part.width_out}" if part.width_in != part.width_out else ""
    if not isinstance(part, SegmentPlan):
        return f"{_kind(part)} unit{widths}"
    found = [node.upsample.factors for node in part.nodes if node.upsample]
    factors = [max(along) for along in zip(*found, strict=True)]
    upsample = name_of(plan.options.upsample)
    inside = f"×{_times(factors)} {upsample} in its first " if factors else ""
    return f"{inside}{kinds.get(part.end, 'block')}{widths}"


def _map(strides: Sequence[int], size: Iterable[int]) -> str:
    return f"stride {_times(strides)}, {by(size)} map"


def _times(factors: Sequence[int]) -> str:
    """One number where all axes agree."""
    return str(factors[0]) if len(set(factors)) == 1 else by(factors)


def _channels(widths: Sequence[int]) -> str:
    distinct = [width for width, _ in groupby(widths)]
    few = ", ".join(map(str, distinct))
    return f"{few if len(distinct) <= 3 else f'{distinct[0]} … {distinct[-1]}'} channels"


def _counted(kinds: Iterable[str]) -> list[str]:
    return [f"{n} {kind}{'s' * (n > 1)}" for kind, n in Counter(kinds).items()]


def by(sides: Iterable[int]) -> str:
    return "×".join(map(str, sides))
