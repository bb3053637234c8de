"""From a claim and rows to a verdict, where they are the paper's recipe, or a trend, where they are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.findings.aggregate import Cell, group_of, select
from benchmarks.findings.configurations import is_recipe, nearest, reasons
from benchmarks.findings.published import PAPER_CELLS
from benchmarks.findings.verdicts import Rule, Verdict
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import PAIR

_OTHERS = "not the paper's networks and data"
# signs of masked gradients, which are said beside a claim of one kind, come from both
_BESIDE = {"robustness": ("strong",), "strong": ("robustness",)}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of the paper that can be true or false.

    Args:
        text: what is claimed.
        source: section or figure; `beyond the paper` for what the paper doesn't say.
        paper: the paper's or its authors' figure.
        criterion: when it is said to hold.
        rule: from rows of one configuration per cell to what they say.
        authors: what the criterion says about the authors' own figures.
        kind: of the rows that it rests on; empty where it rests on no training.
        networks: the arrangements that it compares.
        cells: that it is about.
        quantifier: in how many of the cells it must be true. The cells that were not run can change
            a "yes" for every one, a "no" for some, and either for most.
    """

    text: str
    source: str
    paper: str
    criterion: str
    rule: Rule
    authors: Callable[[], Verdict]
    kind: str = ""
    networks: tuple[str, ...] = PAIR
    cells: tuple[Cell, ...] = PAPER_CELLS
    quantifier: Literal["every", "some", "most"] = "every"


@dataclass(frozen=True)
class Judged:
    """A claim and what our rows say about it."""

    claim: Claim
    verdict: Verdict

    @property
    def authors(self) -> str:
        """What the criterion says about the authors' own figures, in a sentence."""
        found = self.claim.authors()
        if found.holds is None:
            return f"The criterion can't be applied to the authors' figures: {found.reason}."
        passed = "pass" if found.holds else "FAIL"
        return f"The authors' own figures {passed} this criterion: {found.ours}."


def judged(claim: Claim, rows: Sequence[Row]) -> Judged:
    """What rows say about a claim.

    Results of the recipe decide. Where they decide nothing, the results nearest to it show a trend;
    where there are none of the paper's networks and data, whatever was run does.

    Args:
        claim: what to judge.
        rows: as `measured` returns them, of any number of configurations.
    """
    if not claim.kind:
        return Judged(claim, claim.rule(rows))
    own = select(rows, kind=claim.kind)
    beside = nearest(select(rows, kind=_BESIDE.get(claim.kind, ())), claim.networks)
    inside = [row for row in own if group_of(row).cell in claim.cells]
    verdict = _verdict(claim, [row for row in inside if is_recipe(row)], beside)
    if verdict.holds is not None:
        return Judged(claim, verdict)
    chosen = nearest(inside or own, claim.networks)
    why = reasons(chosen) if inside else _OTHERS
    if not why:
        return Judged(claim, verdict)
    trend = claim.rule([*chosen, *beside])
    return Judged(claim, replace(trend, slice=why) if trend.ours else trend)


def _verdict(claim: Claim, recipe: Sequence[Row], beside: Sequence[Row]) -> Verdict:
    """Of the recipe's results; undecided where cells that were not run could change it."""
    chosen = nearest(recipe, claim.networks)
    found = claim.rule([*chosen, *beside])
    missing = len(claim.cells) - len({group_of(row).cell for row in chosen})
    if not missing or found.holds not in _changed_by_more(claim.quantifier):
        return found
    run = f"{len(claim.cells) - missing} of {len(claim.cells)} cells run as the paper's recipe says"
    return replace(found, holds=None, reason=f"{run}; {found.reason}")


def _changed_by_more(quantifier: str) -> Collection[bool | None]:
    return {"every": (True,), "some": (False,), "most": (True, False)}[quantifier]
