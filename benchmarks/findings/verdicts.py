"""Whether a claim holds: the rules for accuracies, parameter counts and localisation.

A claim of "better" holds where the interval of the difference over runs lies above 0, and does not
hold where it lies below; a claim of "the same" holds where a difference that matters is ruled out, and
does not hold where one is shown. All else is undecided, and so is what is made of undecided cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.findings import statistics
from benchmarks.findings.aggregate import Cell, Spread, by_cell, select
from benchmarks.findings.statistics import CONFIDENCE, welch
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES
from benchmarks.subjects.networks import model_title

# A difference in test accuracy that matters, as a share.
MARGIN = 0.01


VERDICTS = {True: "holds", False: "does not hold", None: "undecided"}
TRENDS = {True: "trend for", False: "trend against", None: "no trend"}
LABELS = (*VERDICTS.values(), *TRENDS.values(), "not run")


@dataclass(frozen=True)
class Verdict:
    """What our rows say about a claim.

    Args:
        ours: our figure with its interval, in a sentence; empty where nothing was run.
        holds: None where that can't be said.
        reason: what decided, case by case, with "; " between them.
        slice: why the rows are only a slice of the paper's recipe ("10 of 50 epochs"): they show a
            trend then. Empty where they decide.
    """

    ours: str
    holds: bool | None
    reason: str
    slice: str = ""

    @property
    def label(self) -> str:
        """A verdict, a trend, or `not run`.

        Example:
            >>> Verdict("TD better", True, "").label, Verdict("TD better", True, "", "one epoch").label
            ('holds', 'trend for')
        """
        if not self.ours:
            return "not run"
        answer = TRENDS if self.slice else VERDICTS
        return answer[self.holds]


Rule = Callable[[Sequence[Row]], Verdict]


def not_run(what: str) -> Verdict:
    """No rows to judge by."""
    return Verdict("", None, f"no results of {what}")


def all_of(found: Iterable[bool | None]) -> bool | None:
    """True where all are; False where one is; None where what is left is unknown.

    Example:
        >>> all_of([True, None]), all_of([False, None]), all_of([True])
        (None, False, True)
    """
    states = list(found)
    if False in states:
        return False
    return None if None in states else True


def beyond(lead: float, spread: float) -> bool | None:
    """Is a lead larger than the spread? False where it is that large the other way round.

    Example:
        >>> beyond(0.3, 0.2), beyond(-0.3, 0.2), beyond(0.1, 0.2), beyond(0.3, math.nan)
        (True, False, None, None)
    """
    return lead > 0 if abs(lead) > spread else None


def any_of(found: Iterable[bool | None]) -> bool | None:
    """True where one is; False where none is; None where one that is unknown could be.

    Example:
        >>> any_of([True, None]), any_of([False, None]), any_of([False])
        (True, None, False)
    """
    states = list(found)
    if True in states:
        return True
    return None if None in states else False


def majority(states: Iterable[bool | None]) -> bool | None:
    """True where more than half are; None where those that are unknown could make it so.

    Example:
        >>> majority([True, True, None]), majority([True, None]), majority([True, False])
        (True, None, False)
    """
    found = list(states)
    true, unknown = found.count(True), found.count(None)
    if 2 * true > len(found):
        return True
    return None if 2 * (true + unknown) > len(found) else False


# Exp 1


def on_par(rows: Sequence[Row]) -> Verdict:
    """In every cell it is ruled out that TD is worse than BU by a difference that matters."""
    pairs = _pairs(rows)
    if not pairs:
        return not_run("exp1 for BU and TD")
    states = {cell: _on_par(bu, td) for cell, (bu, td) in pairs.items()}
    return Verdict(_tally(states, "on par"), all_of(states.values()), _listed(pairs))


def small_gap(rows: Sequence[Row]) -> Verdict:
    """In every cell TD and TD_rev differ by less than matters."""
    pairs = _pairs(rows, "reversed")
    if not pairs:
        return not_run("exp1 for TD_rev and TD")
    states = {
        cell: statistics.equivalent(best.values, td.values, margin=MARGIN)
        for cell, (best, td) in pairs.items()
    }
    return Verdict(_tally(states, "small"), all_of(states.values()), _listed(pairs, "reversed"))


def surpasses(rows: Sequence[Row]) -> Verdict:
    """TD is better than BU in at least one cell, at a confidence that allows for looking at all."""
    pairs = _pairs(rows)
    if not pairs:
        return not_run("exp1 for BU and TD")
    confidence = 1 - statistics.ALPHA / len(pairs)
    states = {
        cell: welch(td.values, bu.values, confidence=confidence).sign
        for cell, (bu, td) in pairs.items()
    }
    return Verdict(_tally(states, "TD better"), any_of(states.values()), _listed(pairs))


def reversed_best(rows: Sequence[Row]) -> Verdict:
    """TD_rev is better than TD and TD_uni in more than half of the cells."""
    cells = _complete(rows)
    if not cells:
        return not_run("exp1 for TD, TD_uni and TD_rev")
    states = {
        cell: all_of(
            welch(found["reversed"].values, found[name].values).sign for name in ("td", "uniform")
        )
        for cell, found in cells.items()
    }
    first = sum(
        max(found, key=lambda name, found=found: found[name].mean) == "reversed"  # type: ignore[misc]
        for found in cells.values()
    )
    ours = f"{_tally(states, 'TD_rev best')}; it has the highest mean in {first}"
    return Verdict(ours, majority(states.values()), _means(cells))


def variants_agree(rows: Sequence[Row]) -> Verdict:
    """The three TD variants differ by less than matters, pair by pair, in every cell."""
    cells = _complete(rows)
    if not cells:
        return not_run("exp1 for the TD variants of NIN or NIN-light")
    states = {
        cell: statistics.all_equivalent([s.values for s in found.values()], margin=MARGIN)
        for cell, found in cells.items()
    }
    return Verdict(_tally(states, "the same"), all_of(states.values()), _means(cells))


def applicable(rows: Sequence[Row]) -> Verdict:
    """At least two architectures and two data sets on which TD is on par."""
    pairs = _pairs(rows)
    if not pairs:
        return not_run("exp1 for BU and TD")
    states = {cell: _on_par(bu, td) for cell, (bu, td) in pairs.items()}
    shown = [cell for cell, state in states.items() if state]
    possible = [cell for cell, state in states.items() if state is not False]
    holds = True if _two_of_each(shown) else (None if _two_of_each(possible) else False)
    models, sets = _kinds(shown)
    ours = f"on par shown for {len(models)} networks and {len(sets)} data sets"
    return Verdict(ours, holds, _listed(pairs))


def _on_par(bu: Spread, td: Spread) -> bool | None:
    return statistics.not_worse(td.values, bu.values, margin=MARGIN)


def _two_of_each(cells: Iterable[Cell]) -> bool:
    return min(map(len, _kinds(cells))) >= 2


def _kinds(cells: Iterable[Cell]) -> tuple[set[str], set[str]]:
    found = list(cells)
    return {cell.model for cell in found}, {cell.data for cell in found}


# Parameters


def counts_agree(rows: Sequence[Row]) -> Verdict:
    """All sixteen counts of Table 1, as it rounds them."""
    counted = [row for row in select(rows, kind="parameters") if row.get("paper") is not None]
    if not counted:
        return not_run("table1")
    wrong = [row for row in counted if f"{row['parameters'] / 1000:,.0f}k" != row["paper"]]  # type: ignore[operator]
    holds = False if wrong else (True if len(counted) == 16 else None)
    named = ", ".join(f"{row['model']} {row['arrangement']}" for row in wrong)
    ours = f"{len(counted) - len(wrong)} of 16 agree"
    return Verdict(ours, holds, f"differ: {named}" if wrong else f"{len(counted)} were counted")


def counts_grow(smaller: str, larger: str, *, models: tuple[str, ...] | None = None) -> Rule:
    """One arrangement needs more parameters than another, for every model."""

    def rule(rows: Sequence[Row]) -> Verdict:
        counts: dict[str, dict[str, int]] = {}
        for row in select(rows, kind="parameters"):
            count = row["parameters"]
            assert isinstance(count, int)
            counts.setdefault(str(row["model"]), {})[str(row["arrangement"])] = count
        pairs = {
            model: (found[smaller], found[larger])
            for model, found in counts.items()
            if smaller in found and larger in found and (models is None or model in models)
        }
        if not pairs:
            return not_run("table1")
        ours = "; ".join(
            f"{model_title(name)} ×{new / old:.2f}" for name, (old, new) in pairs.items()
        )
        grown = sum(new > old for old, new in pairs.values())
        return Verdict(ours, grown == len(pairs), f"more in {grown} of {len(pairs)} models")

    return rule


# The figures


def _pairs(
    rows: Sequence[Row],
    other: str = "bu",
    *,
    kind: str = "train",
    value: str = "test_accuracy",
) -> dict[Cell, tuple[Spread, Spread]]:
    return {
        cell: (found[other], found["td"])
        for cell, found in by_cell(select(rows, kind=kind), value).items()
        if {other, "td"} <= set(found)
    }


def _complete(rows: Sequence[Row]) -> dict[Cell, dict[str, Spread]]:
    cells = by_cell(select(rows, kind="train"), "test_accuracy")
    names = ("td", "uniform", "reversed")
    return {
        cell: {name: found[name] for name in names}
        for cell, found in cells.items()
        if set(names) <= set(found)
    }


def _listed(pairs: dict[Cell, tuple[Spread, Spread]], other: str = "bu") -> str:
    changes = (
        f"{cell.title}: {_versus(one, td, other)}, {_lead(one, td, other)}"
        for cell, (one, td) in pairs.items()
    )
    middle = median(td.mean - one.mean for one, td in pairs.values())
    return f"median difference {100 * middle:+.2f} points; " + "; ".join(changes)


def _means(cells: dict[Cell, dict[str, Spread]]) -> str:
    return "; ".join(
        f"{cell.title}: "
        + ", ".join(f"{ARRANGEMENT_TITLES[name]} {s.percent}" for name, s in found.items())
        for cell, found in cells.items()
    )


def _versus(one: Spread, td: Spread, name: str = "bu") -> str:
    return f"{ARRANGEMENT_TITLES[name]} {one.percent}, TD {td.percent}"


def _lead(one: Spread, td: Spread, name: str = "bu") -> str:
    """The difference with its interval."""
    found = welch(td.values, one.values)
    confidence = f" ({CONFIDENCE:.0%})" if found.is_known else ", no interval"
    return f"TD − {ARRANGEMENT_TITLES[name]} = {found.points()}{confidence}"


def _tally(states: dict[Cell, bool | None], what: str) -> str:
    """In one sentence.

    Example:
        >>> _tally({Cell("nin", "cifar10", False): True}, "on par")
        'on par in 1 of 1 cell'
    """
    found = list(states.values())
    parts = [f"{what} in {found.count(True)} of {len(found)} cell{'s' * (len(found) != 1)}"]
    parts += [f"not in {found.count(False)}"] * (False in found)
    parts += [f"open in {found.count(None)}"] * (None in found)
    return ", ".join(parts)
