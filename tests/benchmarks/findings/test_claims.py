"""Verdicts on constructed rows whose answer is known."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.findings import verdicts
from benchmarks.findings.aggregate import Group, Spread, current, failed, pooled_deviation, spreads
from benchmarks.findings.claims import CLAIMS, judge
from benchmarks.findings.claims_page import as_markdown, claims_table
from benchmarks.findings.field_verdicts import ends_fine, starts_coarse
from benchmarks.findings.verdicts import Rule
from benchmarks.measures.fields import EXAMPLE, example_fields
from benchmarks.runs.jobs import Row
from benchmarks.runs.store import Store
from tests.benchmarks.synthetic_rows import accuracies, everything, row

BU = (0.98, 0.982)


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
    assert pooled_deviation(Spread(0, 3, 2), Spread(0, 4, 2)) == pytest.approx(math.sqrt(12.5))


def test_the_newest_of_each_measurement_counts() -> None:
    old = row("train", test_accuracy=0.1, finished="2026-01-01T00:00:00+00:00")
    new = row("train", test_accuracy=0.9, finished="2026-01-02T00:00:00+00:00", job="other")
    lost = row("train", status="failed", finished="2026-01-03T00:00:00+00:00", run=1)
    assert current([new, old, lost]) == [new]


def test_networks_are_compared_under_one_profile() -> None:
    smoke = [row("train", name, profile="smoke", test_accuracy=0.5) for name in ("bu", "td")]
    cpu = [row("train", name, profile="cpu", test_accuracy=0.6) for name in ("bu", "td")]
    paper = [row("train", "bu", profile="paper", test_accuracy=0.9)]
    assert current([*cpu, *smoke, *paper]) == cpu
    both = [*paper, row("train", "td", profile="paper", test_accuracy=0.9)]
    assert current([*both, *cpu, *smoke]) == both


def test_a_job_that_went_well_in_the_end_has_not_failed() -> None:
    bad, good = row("train", job="a", status="failed"), row("train", job="a")
    assert failed([bad, good]) == []
    assert failed([bad]) == [bad]


# Exp 1


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.979, 0.980), "holds"),
        ((0.990, 0.992), "holds"),  # better is not worse
        ((0.950, 0.952), "does not hold"),
        ((0.960, 0.984), "undecided"),  # the spread reaches across the margin
        ((0.979,), "undecided"),
    ],
)
def test_on_par(td: Sequence[float], answer: str) -> None:
    rule = verdicts.on_par("bu")
    assert label(rule, accuracies("bu", BU) + accuracies("td", td)) == answer
    assert label(rule, accuracies("bu", BU)) == "not run"


def test_one_cell_decides_for_all() -> None:
    good = accuracies("bu", BU) + accuracies("td", BU)
    bad = [
        *accuracies("bu", BU, data="fashion-mnist"),
        *accuracies("td", (0.9, 0.902), data="fashion-mnist"),
    ]
    verdict = verdicts.on_par("bu")(good + bad)
    assert verdict.holds is False
    assert verdict.reason == "on par in 1 of 2; not in NIN-light, Fashion-MNIST"


@pytest.mark.parametrize(
    ("td", "answer"),
    [
        ((0.990, 0.992), "holds"),
        ((0.981, 0.983), "undecided"),  # within the spread
        ((0.970, 0.972), "does not hold"),
        ((0.990,), "undecided"),
    ],
)
def test_better_means_beyond_the_spread(td: Sequence[float], answer: str) -> None:
    rows = accuracies("bu", BU) + accuracies("td", td)
    assert label(verdicts.surpasses, rows) == answer


@pytest.mark.parametrize(
    ("best", "answer"),
    [
        ((0.99, 0.992), "holds"),
        ((0.981, 0.983), "undecided"),  # within the spread
        ((0.97, 0.972), "does not hold"),
        ((0.99,), "undecided"),
    ],
)
def test_reversed_best(best: Sequence[float], answer: str) -> None:
    rows = [
        *accuracies("td", BU),
        *accuracies("uniform", BU),
        *accuracies("reversed", best),
    ]
    assert label(verdicts.reversed_best, rows) == answer
    assert label(verdicts.reversed_best, rows[:2]) == "not run"


@pytest.mark.parametrize(
    ("uniform", "answer"), [((0.979, 0.98), "holds"), ((0.95, 0.951), "does not hold")]
)
def test_variants_agree(uniform: Sequence[float], answer: str) -> None:
    rows = [*accuracies("td", BU), *accuracies("uniform", uniform), *accuracies("reversed", BU)]
    assert label(verdicts.variants_agree, rows) == answer
    others = [{**r, "model": "lenet-fc"} for r in rows]
    assert label(verdicts.variants_agree, others) == "not run"


def test_applicable_to_two_networks_and_two_data_sets() -> None:
    rows: list[Row] = []
    for model, data in itertools.product(("lenet-fc", "nin-light"), ("mnist", "fashion-mnist")):
        assert label(verdicts.applicable, rows) == ("undecided" if rows else "not run")
        rows += accuracies("bu", BU, model=model, data=data)
        rows += accuracies("td", BU, model=model, data=data)
        if (model, data) == ("nin-light", "mnist"):
            break
    assert label(verdicts.applicable, rows) == "holds"


def parameters(model: str, arrangement: str, count: int, paper: str | None) -> Row:
    return row("parameters", arrangement, model=model, data=None, parameters=count, paper=paper)


def test_parameter_counts() -> None:
    # sixteen rows are wanted: invented networks fill them up
    rows = [parameters(f"invented {i}", "td", 57846, "58k") for i in range(15)]
    right, wrong = parameters("nin", "td", 3368478, "3,368k"), parameters("nin", "td", 1, "3,368k")
    assert label(verdicts.counts_agree, [*rows, right]) == "holds"
    assert label(verdicts.counts_agree, rows) == "undecided"
    assert verdicts.counts_agree([*rows, wrong]).reason == "differ: nin td"
    assert label(verdicts.counts_agree, [*rows, wrong]) == "does not hold"
    assert label(verdicts.counts_agree, []) == "not run"


def test_parameter_growth() -> None:
    rows = [parameters("nin", "bu", 100, None), parameters("nin", "td", 150, None)]
    assert verdicts.counts_grow("bu", "td")(rows).ours == "NIN ×1.50"
    assert label(verdicts.counts_grow("bu", "td"), rows) == "holds"
    assert label(verdicts.counts_grow("td", "bu"), rows) == "does not hold"
    assert label(verdicts.counts_grow("td", "reversed"), rows) == "not run"


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


def test_other_data_count_where_the_papers_were_not_run() -> None:
    own = accuracies("bu", BU, data="digits") + accuracies("td", BU, data="digits")
    paper = accuracies("bu", BU) + accuracies("td", (0.9, 0.901))

    def on_par(rows: Sequence[Row]) -> tuple[str, str]:
        verdict = next(j.verdict for j in judge(rows) if "on par with" in j.claim.text)
        return verdict.label, verdict.ours

    assert on_par(own)[0] == "holds"
    assert "digits" in on_par(own)[1]
    assert on_par(own + paper)[0] == "does not hold"
    assert "digits" not in on_par(own + paper)[1]


def test_the_table_as_markdown_and_csv(tmp_path: Path) -> None:
    judged = judge(everything(attacks=("PointwiseAttack",), images=20))
    lines = as_markdown(judged).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(CLAIMS)
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    # the criterion of each claim stands below
    assert all(f"{i}. {claim.criterion}" in lines for i, claim in enumerate(CLAIMS, start=1))
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
