"""Widths inside a block under `uniform`: in proportion, as far as its divisions admit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from td_transform import TopDownError
from td_transform.operators.widths import INFLOW, Variable, Width, Widths
from td_transform.plan.assignment import assign
from tests.properties import check_network
from tests.transform.bodies import SIZE, convert
from tests.transform.plain import Function, in_a_chain


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


def winners(width: int) -> nn.Module:
    """Which channel is the largest, as so many maps, whatever flows in."""

    def forward(x: Tensor) -> Tensor:
        maps = functional.one_hot(x.argmax(1), width).movedim(-1, 1)
        return maps * x.mean(1, keepdim=True)

    return Function(width, forward)


def test_a_block_whose_output_has_as_many_channels_as_its_code_says() -> None:
    check_network(convert(in_a_chain(winners)), torch.rand(2, *SIZE), classes=7)
    with pytest.raises(TopDownError, match=r"can't be had with 16 channels in and 16 out.*'td'"):
        convert(in_a_chain(winners), arrangement="uniform")
