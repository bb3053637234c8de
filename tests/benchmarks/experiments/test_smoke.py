"""Every experiment of the harness, end to end, on data that needs no download."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.experiments import EXPERIMENTS, HANDLERS

pytestmark = pytest.mark.exhaustive


def test_everything(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name in EXPERIMENTS:
        main([name, "--profile", "smoke", "--results", str(results), "--device", "cpu"])
    rows = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == set(HANDLERS)
    assert {row["status"] for row in rows} == {"done"}
    assert all(row["commit"] and row["torch"] and row["cpu"] for row in rows)
    main(["report", "--results", str(results), "--out", str(tmp_path / "report")])
    assert "data:image/png;base64" in (tmp_path / "report" / "report.html").read_text()
    with (tmp_path / "report" / "tables" / "claims.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 20
