"""The sixteen parameter counts of the paper's Table 1, to the digit, in every style of writing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from td_transform import to_topdown
from tests.paper_data import table1
from tests.paper_networks import STYLES

CASES = [(name, style) for name, styles in STYLES.items() for style in styles]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "style"), CASES)
@pytest.mark.parametrize("column", ["bu", "td", "uniform", "reversed"])
def test_count(name: str, style: str, column: str) -> None:
    row = table1()[name]
    with torch.device("meta"):
        model = STYLES[name][style]()
    if column == "bu":
        assert count(model) == row["bu"]
        return
    td = to_topdown(model, input_size=tuple(row["input"]), arrangement=column)
    assert td.plan.parameters == count(td) == row[column]
