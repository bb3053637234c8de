"""The plan as a table."""

from __future__ import annotations

from collections.abc import Sequence

from td_transform.plan.values import LevelPlan, Part, Plan, SegmentPlan, UnitPlan, UpsamplePlan


def plan_table(plan: Plan) -> str:
    """One row per level and one for the head, with widths, kernels and parameters."""
    size = "x".join(map(str, plan.input_size))
    options = plan.options
    title = (
        f"{plan.model}, {size}: {options.arrangement}, output stride {options.output_stride}, "
        f"{options.merge}, {options.upsample}, {options.pyramid}, {options.weights} weights"
    )
    rows = [_level_row(i, level) for i, level in enumerate(plan.levels)]
    rows.append(["head", "", "", str(plan.head.width_in), "", "", f"{_head_parameters(plan):,}"])
    header = ["level", "stride", "made from", "widths", "kernels", "layers", "parameters"]
    lines = [title, *format_table(header, rows), f"total {plan.parameters:,} parameters"]
    if plan.options.weights == "inherit":
        lines.append(f"inherited: {', '.join(plan.inherited) or 'nothing'}")
    return "\n".join([*lines, *(f"warning: {w}" for w in plan.warnings)])


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell; numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(c[:1].isdigit() or not c for c in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *map(line, rows)]


def _level_row(index: int, level: LevelPlan) -> list[str]:
    learned = sum(_learned(part) for part in level.parts)
    made_from = f"stage {level.made_from}" if level.made_from is not None else "lift alone"
    return [
        str(index),
        str(level.stride),
        made_from,
        _short(_widths(level)),
        _short([_kernel(k) for k in _kernels(level)]),
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


def _kernels(level: LevelPlan) -> list[tuple[int, int]]:
    found = [part.kernel for part in level.parts if isinstance(part, UnitPlan)]
    return list(dict.fromkeys(found))


def _kernel(kernel: tuple[int, int]) -> str:
    return f"{kernel[0]}x{kernel[1]}"


def _short(items: list[str]) -> str:
    """Runs of the same item as item x count."""
    runs: list[tuple[str, int]] = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1] = (item, runs[-1][1] + 1)
        else:
            runs.append((item, 1))
    return ", ".join(item if count == 1 else f"{item} (x{count})" for item, count in runs)


def _head_parameters(plan: Plan) -> int:
    return plan.parameters - sum(level.parameters for level in plan.levels)
