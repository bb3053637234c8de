"""A table is the same in the terminal, as CSV and on the page."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.findings.table import Table
from benchmarks.findings.tables import robustness_table
from tests.benchmarks.synthetic_rows import l2_row

COUNTS = Table("t", "Counts", ("network", "count"), (("NIN", 1200), ("other", None)), "A note.")


def test_text_and_csv(tmp_path: Path) -> None:
    lines = COUNTS.as_text().splitlines()
    assert (lines[0], lines[-1]) == ("Counts", "A note.")
    assert [line.split() for line in lines[3:5]] == [["NIN", "1,200"], ["other"]]
    COUNTS.write_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        assert list(csv.reader(file)) == [["network", "count"], ["NIN", "1200"], ["other", ""]]


def test_the_authors_figures_stand_below_ours() -> None:
    rows = [l2_row(name, [1.0, 2.0, None, -1]) for name in ("bu", "td")]
    table = robustness_table(rows)
    assert table is not None
    assert [line[3:5] for line in table.lines] == [
        ("BU", "ours"), ("BU", "authors'"), ("TD", "ours"), ("TD", "authors'"),
    ]  # fmt: skip
    ours, authors = table.lines[:2]
    assert ours[5:10] == (1.0, 1.0, 2.0, None, 50.0)
    # read off Fig. 6: NIN-light BU under Pointwise on MNIST
    assert authors[5:9] == (2.378, 3.024, 3.798, 4.829)
    assert [line[-1] is None for line in table.lines] == [True, True, False, False]


def test_an_error_has_four_parts() -> None:
    error = BenchmarkError("batch", seen="0", expected="1 or more", remedy="raise it")
    assert str(error) == "batch: 0; expected 1 or more. Remedy: raise it"
    with pytest.raises(ValueError, match="Remedy"):
        raise error
