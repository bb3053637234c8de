"""Recipe or slice: which rows decide, which show a trend, and which are never taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.findings.aggregate import Cell, current, measured
from benchmarks.findings.claims import CLAIMS, judge
from benchmarks.findings.claims_page import as_markdown, as_text
from benchmarks.findings.configurations import departures_of, nearest, reasons
from benchmarks.findings.published import PAPER_CELLS
from benchmarks.findings.verdicts import Verdict
from benchmarks.runs.departures import departures
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import PROFILES, Profile, Setting, is_changed
from benchmarks.runs.recipes import training, trainings
from tests.benchmarks.synthetic_rows import accuracies, l2_row, row

BU = (0.980, 0.982, 0.981, 0.979)
LOW = tuple(value - 0.05 for value in BU)
RECIPE: dict[str, Any] = {"departures": {}}
TEN: dict[str, Any] = {"departures": {"epochs": [10, 50]}}
SIX: dict[str, Any] = {"departures": {"epochs": [6, 50], "batch": [32, 128]}}


def pair(
    cell: Cell, td: Sequence[float] = BU, bu: Sequence[float] = BU, **columns: Any
) -> list[Row]:
    place = {"model": cell.model, "data": cell.data, "augmented": cell.augmented, **columns}
    return accuracies("bu", bu, **place) + accuracies("td", td, **place)


def verdict(text: str, rows: Sequence[Row]) -> Verdict:
    return next(one.verdict for one in judge(rows) if text in one.claim.text)


def everywhere(td: Sequence[float] = BU, **columns: Any) -> list[Row]:
    return [row for cell in PAPER_CELLS for row in pair(cell, td, **columns)]


# What a row says


def job(profile: Profile, arrangement: Any = "td") -> Job:
    return training(Setting("lenet-fc", "mnist"), arrangement, 0, profile)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"runs": 1, "seed": 3}, {}),
        ({"epochs": 10}, {"epochs": [10, 30]}),
        ({"train_limit": 500}, {"train_limit": [500, None]}),
        (
            {"batch": 64, "precision": "bf16"},
            {"batch": [64, 128], "precision": ["bf16", "float32"]},
        ),
    ],
)
def test_departures_of_a_training(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert departures(job(replace(PROFILES["paper"], **changes))) == expected


def test_the_papers_own_epochs_differ_between_networks() -> None:
    assert departures(job(PROFILES["paper"], "bu")) == {}
    ten = replace(PROFILES["paper"], epochs=10)
    assert departures(job(ten, "bu")) == {"epochs": [10, 50]}


def test_a_profile_is_custom_where_a_result_changes() -> None:
    paper = PROFILES["paper"]
    assert not is_changed(replace(paper, runs=1, arrangements=("bu",), settings=()))
    assert not is_changed(replace(paper, attacked_runs=4, parts=("strong",)))
    assert is_changed(replace(paper, epochs=1))
    assert is_changed(replace(paper, seed=1))


def test_core_is_all_images_with_the_authors_batches() -> None:
    jobs = trainings(PROFILES["core"])
    assert all(set(departures(job)) == {"epochs"} for job in jobs)
    trained = {(job.config.model, job.config.data, job.config.arrangement) for job in jobs}
    grey = ("mnist", "fashion-mnist")
    assert trained == {
        *(("lenet-fc", d, a) for d in grey for a in ("bu", "td", "uniform", "reversed")),
        *(("nin-light", d, a) for d in grey for a in ("bu", "td")),
        *(("resnet32", "cifar10", a) for a in ("bu", "td")),
    }
    runs = [job.config.run for job in jobs if job.config.model == "resnet32"]
    assert max(runs) == 1
    assert max(job.config.run for job in jobs) == 3


def test_reasons() -> None:
    assert reasons(pair(PAPER_CELLS[0], **SIX)) == "6 of 50 epochs; batch 32 instead of 128"
    mixed = [{"departures": {"epochs": [10, paper]}} for paper in (200, 50, 30)]
    assert reasons(mixed) == "10 of 30 or 50 or 200 epochs"
    assert reasons(pair(PAPER_CELLS[0], **RECIPE)) == ""
    assert reasons([{"departures": {"channels_last": [False, True]}}]) == ""
    # a row from before rows said it
    assert departures_of({"kind": "train", "profile": "paper"}) == {"profile": ["paper", "paper"]}


# Which rows decide


def test_the_recipe_gives_a_verdict_and_a_slice_a_trend() -> None:
    for td, recipe, part in ((BU, "holds", "trend for"), (LOW, "does not hold", "trend against")):
        assert verdict("on par with their", everywhere(td, **RECIPE)).label == recipe
        found = verdict("on par with their", everywhere(td, **TEN))
        assert (found.label, found.slice) == (part, "10 of 50 epochs")
    single = everywhere(BU[:1], **TEN)
    assert verdict("on par with their", single).label == "no trend"
    unsaid = [{k: v for k, v in row.items() if k != "departures"} for row in everywhere()]
    assert verdict("on par with their", unsaid).label == "trend for"


def test_the_reason_stands_on_the_page_and_in_the_terminal() -> None:
    judged = judge(everywhere(**SIX))
    assert "| **trend for** (6 of 50 epochs, and 1 more) |" in as_markdown(judged)
    assert "- A trend only: 6 of 50 epochs; batch 32 instead of 128." in as_markdown(judged)
    assert "trend for (6 of 50" in as_text(judged)


def test_cells_that_were_not_run_keep_a_claim_about_all_of_them_open() -> None:
    rows = pair(PAPER_CELLS[0], **RECIPE)
    found = verdict("on par with their", rows)
    assert found.label == "undecided"
    assert found.reason.startswith("1 of 8 cells run as the paper's recipe says; ")
    # one that fails decides, and so does one that surpasses where some are claimed to
    assert (
        verdict("on par with their", pair(PAPER_CELLS[0], LOW, **RECIPE)).label == "does not hold"
    )
    better = pair(PAPER_CELLS[0], bu=LOW, **RECIPE)
    assert verdict("surpass their", better).label == "holds"
    worse = pair(PAPER_CELLS[0], LOW, **RECIPE)
    assert verdict("surpass their", worse).label == "undecided"


def test_a_slice_adds_a_trend_where_the_recipe_leaves_it_open() -> None:
    rows = pair(PAPER_CELLS[0], **RECIPE) + everywhere(**TEN)
    found = verdict("on par with their", rows)
    assert (found.label, found.slice) == ("trend for", "10 of 50 epochs")
    assert found.ours == "on par in 8 of 8 cells"


def test_rows_of_different_configurations_are_never_merged() -> None:
    cell = PAPER_CELLS[0]
    rows = pair(cell, **TEN) + pair(cell, LOW, LOW, **SIX)
    kept = current(rows)
    assert {str(row["departures"]) for row in kept} == {str(TEN["departures"])}
    assert len(kept) == 2 * len(BU)
    # the same run under another configuration is another measurement
    assert len(measured(rows)) == len(rows)
    # BU under one and TD under another are not compared
    mixed = [row for row in pair(cell, **TEN) if row["arrangement"] == "bu"]
    mixed += [row for row in pair(cell, **SIX) if row["arrangement"] == "td"]
    assert verdict("on par with their", mixed).label == "not run"


def test_the_nearest_to_the_recipe_decides_pair_by_pair() -> None:
    cell = PAPER_CELLS[0]
    recipe = pair(cell, **RECIPE)
    place = {"model": cell.model, "data": cell.data, "augmented": cell.augmented}
    ten = pair(cell, LOW, **TEN) + accuracies("reversed", LOW, **place, **TEN)
    rows = recipe + ten + pair(cell, **SIX)
    assert {str(row["departures"]) for row in nearest(rows, ("bu", "td"))} == {"{}"}
    found = nearest(rows, ("td", "reversed"))
    assert {str(row["departures"]) for row in found} == {str(TEN["departures"])}
    assert {row["arrangement"] for row in found} == {"td", "reversed"}


def test_a_single_run_of_the_recipe_does_not_hide_runs_that_have_an_interval() -> None:
    cell = PAPER_CELLS[0]
    rows = pair(cell, BU[:1], BU[:1], **RECIPE) + pair(cell, **TEN)
    assert verdict("on par with their", rows).label == "trend for"
    alone = verdict("on par with their", pair(cell, BU[:1], BU[:1], **RECIPE))
    assert alone.label == "undecided"


def test_other_data_show_a_trend_where_the_papers_were_not_run() -> None:
    own = pair(Cell("lenet-fc", "digits", False), **RECIPE)
    found = verdict("on par with their", own)
    assert (found.label, found.slice) == ("trend for", "not the paper's networks and data")
    assert "digits" in found.reason
    assert "digits" not in verdict("on par with their", own + everywhere(LOW, **RECIPE)).reason


# The authors' own figures


def test_every_criterion_is_applied_to_the_authors_figures() -> None:
    """What comes out, written down: 'FAIL' stands beside the claim on the page."""
    said = {
        number: {True: "pass", False: "FAIL", None: "-"}[claim.authors().holds]
        for number, claim in enumerate(CLAIMS, start=1)
    }
    passed = {2, 7, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21}
    assert {number for number, answer in said.items() if answer == "pass"} == passed
    # ResNet32's TD is behind in one of two curves, which is not more than half
    assert {number for number, answer in said.items() if answer == "FAIL"} == {18}
    assert "substantially less robust" in CLAIMS[17].text


def test_a_failure_of_the_authors_figures_stands_beside_the_criterion() -> None:
    failed = "The authors' own figures FAIL this criterion: TD less robust in 1 of 2 curves,"
    for shown in (as_markdown(judge([])), as_text(judge([]))):
        assert failed in shown
        assert "can't be applied to the authors' figures: the accuracies of Fig. 4" in shown
    assert "; **the authors' own figures fail our criterion** |" in as_markdown(judge([]))


def test_signs_of_masked_gradients_come_from_the_other_kind_of_rows() -> None:
    attacked = [l2_row(name, [1.0] * 9, attack="PointwiseAttack") for name in ("bu", "td")]
    claim = "more robust against correlated noise"
    assert "gradient masking not checked" in verdict(claim, attacked).ours
    checked: list[Row] = [
        row(
            "strong", name, attack="AutoAttack", norm="l2", epsilon=0.5, right=[True] * 9,
            images=9, signs=["zero gradients"], robust_accuracy=1.0,
        )
        for name in ("bu", "td")
    ]  # fmt: skip
    assert "TD: zero gradients" in verdict(claim, attacked + checked).ours
