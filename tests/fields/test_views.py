"""What a user does with receptive fields: read, write, draw, compare, measure."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from td_transform import ReceptiveFields, TopDownError, compare, receptive_field, to_topdown
from tests.networks import TOPOLOGIES, chain

SIZE = (3, 64, 64)


def test_table_and_names() -> None:
    fields = receptive_field(chain(), SIZE)
    text = str(fields)
    assert text.splitlines()[0].split() == [
        "node", "operator", "size", "stride", "field", "min..max", "start", "whole", "image",
    ]  # fmt: skip
    assert fields["_0_0"] is fields["0.0"]
    assert len(text.splitlines()) == len(fields) + 2


def test_csv_and_pandas(tmp_path: Path) -> None:
    fields = receptive_field(chain(), SIZE)
    fields.to_csv(tmp_path / "rf.csv")
    with (tmp_path / "rf.csv").open() as file:
        rows = list(csv.DictReader(file))
    frame = fields.to_pandas()
    assert len(rows) == len(frame) == len(fields)
    assert rows[1]["size_max_vertical"] == "3"
    assert list(frame.columns) == list(rows[0])
    assert frame["size_max_horizontal"].tolist() == [row.size_max[1] for row in fields.values()]


def test_pictures(tmp_path: Path) -> None:
    fields = receptive_field(chain(), SIZE)
    assert fields.plot(tmp_path / "rf.png").stat().st_size > 10_000
    figure = fields.show_on(torch.rand(SIZE), "2", (3, 3), path=tmp_path / "box.png")
    assert "at (3, 3) sees" in figure.axes[0].get_title()
    assert (tmp_path / "box.png").stat().st_size > 10_000


def test_plot_draws_both_networks(tmp_path: Path) -> None:
    fields = receptive_field(chain(), SIZE)
    fields.plot(tmp_path / "rf.svg")
    text = (tmp_path / "rf.svg").read_text()
    assert "bottom-up: largest path" in text
    assert "top-down: largest path" in text


def test_comparison_says_the_papers_argument() -> None:
    bu = chain()
    td = to_topdown(bu, input_size=SIZE)
    found = compare(bu, td)
    pairs = list(zip(found.bottom_up, found.top_down, strict=True))
    assert all(t.depth < b.depth for b, t in pairs if t.node)
    assert found.top_down[0].node == "pyramid_0"  # the coarsest level, before any layer
    assert found.top_down_ranges[0].largest > found.bottom_up_ranges[0].largest
    assert "bottom-up: first at depth" in str(found)


def test_a_topdown_network_knows_its_size() -> None:
    td = to_topdown(chain(), input_size=(3, 33, 47))
    assert receptive_field(td).input_size == (3, 33, 47)


def test_measured_fields_lie_within_the_analytic_ones() -> None:
    torch.manual_seed(0)
    model = TOPOLOGIES["residual"]()
    training = [m.training for m in model.modules()]
    analytic = receptive_field(model, SIZE)
    measured = receptive_field(model, SIZE, method="gradient", samples=6, nodes=["0", "1", "4"])
    assert len(measured) == 3
    for name, row in measured.items():
        top, left, bottom, right = analytic.box(name, row.position)
        assert top <= row.box[0] < row.box[2] <= bottom
        assert left <= row.box[1] < row.box[3] <= right
        assert row.effective[0] < 1.5 * analytic[name].size_max[0]
        assert abs(row.centre[0] - (top + bottom) / 2) < 0.2 * row.support[0]
    assert measured["0.2"].support == (3, 3)
    assert [m.training for m in model.modules()] == training
    assert all(p.grad is None for p in model.parameters())


ERRORS: dict[str, tuple[Callable[[ReceptiveFields], object], str]] = {
    "position": (
        lambda fields: fields.box("0", (64, 0)),
        r"position \(64, 0\) of '0': a map of 64x64 positions; expected a row and a column within "
        r"it\. Remedy: count from \(0, 0\)",
    ),
    "name": (
        lambda fields: fields["layer9"],
        r"name 'layer9': a network of \d+ nodes without it; expected a module path or a node name"
        r".*Remedy: print the receptive fields to see all names",
    ),
    "suffix": (
        lambda fields: fields.plot("rf.bmpx"),
        r"file 'rf\.bmpx': the suffix '\.bmpx'; expected one of .*png.*Remedy: name a \.png",
    ),
    "image": (
        lambda fields: fields.show_on(torch.rand(3, 8, 8), "0", (0, 0)),
        r"argument 'image': shape \(3, 8, 8\); expected \(C, 64, 64\).*Remedy: resize the image",
    ),
    "images": (
        lambda _: receptive_field(
            chain(), SIZE, method="gradient", images=torch.rand(2, 3, 8, 8)
        ),
        r"argument 'images': shape \(2, 3, 8, 8\); expected \(N, 3, 64, 64\)",
    ),
    "nodes": (
        lambda _: receptive_field(chain(), SIZE, method="gradient", nodes=["6"], samples=1),
        r"node '_6_2': a tensor of shape \(2, 7\); expected a map \(N, C, H, W\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    fail, text = ERRORS[name]
    fields = receptive_field(chain(), SIZE)
    with pytest.raises(TopDownError, match=text):
        fail(fields)


def test_matplotlib_and_pandas_are_imported_late() -> None:
    code = (
        "import sys, td_transform; "
        "print([m for m in ('matplotlib', 'pandas', 'torchvision', 'foolbox') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
