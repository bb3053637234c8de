"""The plan's levels as a table."""

from __future__ import annotations

from collections.abc import Sequence

from td_transform.layers.dimensions import agreed, by
from td_transform.plan.cost import PlanCost, Work
from td_transform.plan.parts import LevelPlan, Part, SegmentPlan, UnitPlan, UpsamplePlan
from td_transform.table import Table

_HEADER = ["level", "stride", "made from", "widths", "kernels", "layers", "parameters"]
_COSTS = ["multiply-adds", "activation bytes"]


def level_table(
    levels: Sequence[LevelPlan], head: SegmentPlan, total: int, cost: PlanCost | None
) -> Table:
    """One row per level and one for the head: widths, kernels, parameters, what an image costs."""
    rows = [_level_row(i, level) for i, level in enumerate(levels)]
    of_head = total - sum(level.parameters for level in levels)
    rows.append(["head", "", "", str(head.width_in), "", "", f"{of_head:,}"])
    if cost is None:
        return Table(_HEADER, rows)
    rows.insert(0, ["pyramid", *[""] * 6])
    works = (cost.pyramid, *cost.levels, cost.head)
    costly = [[*row, *_work(work)] for row, work in zip(rows, works, strict=True)]
    return Table([*_HEADER, *_COSTS], costly)


def totals(parameters: int, cost: PlanCost | None) -> str:
    """The line below the table."""
    if cost is None:
        return f"total {parameters:,} parameters"
    multiply_adds, kept = _work(cost.total)
    return (
        f"total {parameters:,} parameters; per image {multiply_adds} multiply-adds "
        f"({cost.ratio:.1f} x the bottom-up model's), {kept} bytes of activations "
        f"kept in training ({cost.memory_ratio:.1f} x)"
    )


def _work(work: Work) -> list[str]:
    return [f"{work.multiply_adds:,}", f"{work.activation_bytes:,}"]


def _level_row(index: int, level: LevelPlan) -> list[str]:
    learned = sum(_learned(part) for part in level.parts)
    made_from = f"stage {level.made_from}" if level.made_from is not None else "lift alone"
    if level.lift is None:
        made_from += ", no lift"
    return [
        str(index),
        agreed(level.strides),
        made_from,
        _short(_widths(level)),
        _short([by(kernel) for kernel in _kernels(level)]),
        str(learned),
        f"{level.parameters:,}",
    ]


def _learned(part: Part) -> int:
    if isinstance(part, SegmentPlan):
        return sum(1 for layer in part.layers if layer.parameters)
    return int(isinstance(part, UnitPlan) or part.parameters > 0)


def _widths(level: LevelPlan) -> list[str]:
    widths = [part.width_out for part in level.parts if not isinstance(part, UpsamplePlan)]
    return [str(w) for w in widths]


def _kernels(level: LevelPlan) -> list[tuple[int, ...]]:
    found = [part.kernel for part in level.parts if isinstance(part, UnitPlan)]
    return list(dict.fromkeys(found))


def _short(items: list[str]) -> str:
    """Runs of the same item as item x count."""
    runs: list[tuple[str, int]] = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1] = (item, runs[-1][1] + 1)
        else:
            runs.append((item, 1))
    return ", ".join(item if count == 1 else f"{item} (x{count})" for item, count in runs)
