"""Verdicts on constructed rows whose answer is known."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.findings.aggregate import Group, Spread, current, failed, spreads
from benchmarks.findings.claims import CLAIMS, judge
from benchmarks.findings.claims_page import as_markdown, claims_table
from benchmarks.findings.field_verdicts import ends_fine, starts_coarse
from benchmarks.findings.verdicts import Rule
from benchmarks.measures.fields import EXAMPLE, example_fields
from benchmarks.runs.jobs import Row
from benchmarks.runs.store import Store
from tests.benchmarks.synthetic_rows import accuracies, everything, row

BU = (0.98, 0.982, 0.981)


def label(rule: Rule, rows: Sequence[Row]) -> str:
    return rule(rows).label


# Aggregation


def test_mean_and_deviation_over_runs() -> None:
    found = spreads(accuracies("td", [0.9, 0.92, 0.97]), "test_accuracy")
    spread = found[(Group("nin-light", "td", "mnist", False),)]
    assert spread.mean == pytest.approx(0.93)
    assert spread.deviation == pytest.approx(np.std([0.9, 0.92, 0.97], ddof=1))
    assert spread.runs == 3
    assert math.isnan(Spread.of([1.0]).deviation)


def test_the_newest_of_each_measurement_counts() -> None:
    old = row("train", test_accuracy=0.1, finished="2026-01-01T00:00:00+00:00")
    new = row("train", test_accuracy=0.9, finished="2026-01-02T00:00:00+00:00", job="other")
    lost = row("train", status="failed", finished="2026-01-03T00:00:00+00:00", run=1)
    assert current([new, old, lost]) == [new]


def test_a_job_that_went_well_in_the_end_has_not_failed() -> None:
    bad, good = row("train", job="a", status="failed"), row("train", job="a")
    assert failed([bad, good]) == []
    assert failed([bad]) == [bad]


# Receptive fields


def test_the_example_of_section_3() -> None:
    assert example_fields() == EXAMPLE
    verdict = starts_coarse([])
    assert verdict.ours.startswith("example: TD 18, BU 18 pixels; LeNetFC: TD 20, BU 24 pixels")
    assert verdict.holds is False
    assert ends_fine([]).ours.startswith("LeNetFC: TD 28×28, BU 7×7; ")
    assert ends_fine([]).label == "holds"


# The table


def test_without_results_only_the_fields_are_judged() -> None:
    labels = {one.claim.source: one.verdict.label for one in judge([])}
    assert labels.pop("3.2, Fig. 2") == "holds"
    assert labels.pop("3.2") == "does not hold"
    assert labels.pop("abstract; 4.3 (a), Fig. 7, 8") == "holds"
    assert set(labels.values()) == {"not run"}


def test_the_table_as_markdown_and_csv(tmp_path: Path) -> None:
    judged = judge(everything(attacks=("PointwiseAttack",), images=20))
    lines = as_markdown(judged).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(CLAIMS)
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    # the criterion of each claim stands below
    assert [f"- Holds when: {claim.criterion}" for claim in CLAIMS] == [
        line for line in lines if line.startswith("- Holds when: ")
    ]
    # and no cell is longer than a few sentences
    assert max(len(cell) for line in table for cell in line.split(" | ")) < 300
    assert [line for line in lines if line.startswith("### ")] == [
        f"### Claim {i}" for i in range(1, len(CLAIMS) + 1)
    ]
    claims_table(judged).write_csv(tmp_path / "claims.csv")
    with (tmp_path / "claims.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [one["claim"] for one in found] == [claim.text for claim in CLAIMS]
    assert {one["verdict"] for one in found} >= {"holds", "not run"}


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).append(*accuracies("bu", BU), *accuracies("td", BU))
    page = tmp_path / "docs" / "claims.md"
    main(["claims", "--results", str(tmp_path), "--markdown", str(page)])
    printed = capsys.readouterr().out
    assert "TD networks are on par with their BU" in printed
    assert "Holds when:" in printed
    assert "| TD networks are on par with their BU baselines. |" in page.read_text()
    with pytest.raises(SystemExit):
        main(["claims", "--results", str(tmp_path / "nothing")])
    assert "run an experiment first, or name its folder" in capsys.readouterr().err
