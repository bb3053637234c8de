"""Plan: give the free widths of a segment their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from td_transform.operators.widths import INFLOW, Variable, Width, Widths


def assign(
    widths: Widths,
    out: Width,
    *,
    width_in: int,
    target: int | None,
    scale: bool,
    overrides: Mapping[Variable, int],
) -> dict[Variable, int] | None:
    """Values of all free widths, None where they can't be had.

    Args:
        widths: the segment's widths.
        out: the width that flows out.
        width_in: what flows in.
        target: what the output should be; None leaves it as it comes.
        scale: keep the proportions inside the segment (the uniform arrangement), instead of the
            bottom-up widths.
        overrides: values for some variables.
    """
    bottom_up = widths.bottom_up
    ratio = Fraction(1)
    if scale:
        before = widths.value(out, bottom_up) or 1
        ratio = (
            Fraction(width_in, bottom_up[INFLOW]) if target is None else Fraction(target, before)
        )
    # a number comes out as it did, whatever the widths
    step = math.lcm(*(of for width, of in widths.multiples if widths.resolve(width).terms))
    flow = Fraction(width_in, bottom_up[INFLOW]) if scale else ratio
    outflow = widths.resolve(out)
    leaves = ratio if target is None else Fraction(target, widths.value(out, bottom_up) or 1)
    split_in = _parts_of(frozenset({INFLOW}), widths)
    split_out = _parts_of(outflow.variables, widths) - split_in
    # in proportion; then so that divisions come out even; else the bottom-up widths inside; else
    # the parts of what flows in, or of what flows out, in proportion to that
    for factor, multiple, of_inflow, of_outflow in dict.fromkeys((
        (ratio, 1, ratio, ratio), (ratio, step, ratio, ratio), (Fraction(1),  1, Fraction(1), Fraction(1)),
        (ratio, 1, flow, ratio), (ratio, 1, flow, leaves),
    )):  # fmt: skip
        values = {
            n: _scaled(
                bottom_up[n],
                of_inflow if n in split_in else of_outflow if n in split_out else factor,
                multiple,
            )
            for n in widths.free()
        }
        values.update(overrides)
        values[INFLOW] = width_in
        if target is not None:
            _reach(outflow, values, target)
        # what flows in may be pinned
        flows = widths.value(Width.variable(INFLOW), values) == width_in
        if flows and widths.admits(values) and _all_whole(widths, values):
            return values
    return None


def _parts_of(wholes: frozenset[Variable], widths: Widths) -> set[Variable]:
    """What is taken from them, where a split takes them apart: the rest is the whole less that."""
    rests = [dict(widths.resolve(Width.variable(name)).terms) for name in widths.known()]
    found: set[Variable] = set()
    for rest in rests:
        if any(rest.get(whole, 0) > 0 for whole in wholes):
            found.update(part for part, c in rest.items() if c < 0)
    return found


def _scaled(width: int, factor: Fraction, multiple: int) -> int:
    if factor == 1:
        return width
    return max(multiple, round(width * factor / multiple) * multiple)


def _reach(out: Width, values: dict[Variable, int], target: int) -> None:
    """Set the output's width; where it is a sum, its largest free part takes the difference."""
    parts = [(name, c) for name, c in out.terms if name != INFLOW and c > 0]
    if not parts:
        return
    name, coefficient = max(parts, key=lambda part: part[1] * values[part[0]])
    missing = (target - out.evaluate(values)) / coefficient
    wanted = values[name] + missing
    if wanted.denominator == 1 and wanted > 0:
        values[name] = int(wanted)


def _all_whole(widths: Widths, values: Mapping[Variable, int]) -> bool:
    return all(widths.value(Width.variable(name), values) is not None for name in widths.known())
