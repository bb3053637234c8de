"""Widths inside a block under `uniform`: in proportion, as far as its divisions admit."""

from __future__ import annotations

import pytest

from td_transform.operators.widths import INFLOW, Variable, Width, Widths
from td_transform.plan.assignment import assign


@pytest.mark.parametrize(
    ("multiples", "inner"),
    [
        ([], 48),
        ([(Width.variable(Variable("inner", "out")), 32)], 64),
        # so many patches of so many positions are no measure for the channels (MobileViT)
        ([(Width.of(768), 384)], 48),
    ],
)
def test_only_divisions_of_widths_count(multiples: list[tuple[Width, int]], inner: int) -> None:
    widths = Widths()
    widths.variable(INFLOW, 80)
    within, out = (widths.variable(Variable(name, "out"), 80) for name in ("inner", "last"))
    for width, of in multiples:
        widths.require_multiple(width, of)
    values = assign(widths, out, width_in=48, target=48, scale=True, overrides={})
    assert values is not None
    assert widths.value(within, values) == inner
