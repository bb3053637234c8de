"""The sixteen parameter counts of the paper's Table 1, to the digit, in every style of writing."""

from __future__ import annotations

import pytest
from torch import nn

from td_transform import plan_topdown, to_topdown
from tests.paper_data import table1
from tests.paper_networks import STYLES

CASES = [(name, style) for name, styles in STYLES.items() for style in styles]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "style"), CASES)
@pytest.mark.parametrize("column", ["bu", "td", "uniform", "reversed"])
def test_count(name: str, style: str, column: str) -> None:
    row = table1()[name]
    model = STYLES[name][style]()
    if column == "bu":
        assert count(model) == row["bu"]
        return
    size = tuple(row["input"])
    plan = plan_topdown(model, input_size=size, arrangement=column)
    td = to_topdown(model, input_size=size, arrangement=column)
    assert plan.parameters == count(td) == row[column]
