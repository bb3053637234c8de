"""Whether a claim holds: the rules for test accuracies (Exp. 1).

A claim of "better" holds where the interval of the difference over runs lies above 0, and does not
hold where it lies below; a claim of "the same" holds where a difference that matters is ruled out, and
does not hold where one is shown. All else is undecided, and so is what is made of undecided cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.findings import statistics
from benchmarks.findings.aggregate import Cell, Spread, by_cell, select
from benchmarks.findings.statistics import CONFIDENCE, welch
from benchmarks.findings.verdicts import Verdict, all_of, any_of, majority, not_run
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES

# A difference in test accuracy that matters, as a share.
MARGIN = 0.01


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
    ours = f"shown on par: networks {len(models)}, data sets {len(sets)}"
    return Verdict(ours, holds, _listed(pairs))


def _on_par(bu: Spread, td: Spread) -> bool | None:
    return statistics.not_worse(td.values, bu.values, margin=MARGIN)


def _two_of_each(cells: Iterable[Cell]) -> bool:
    return min(map(len, _kinds(cells))) >= 2


def _kinds(cells: Iterable[Cell]) -> tuple[set[str], set[str]]:
    found = list(cells)
    return {cell.model for cell in found}, {cell.data for cell in found}


# The figures


def _pairs(
    rows: Sequence[Row],
    other: str = "bu",
) -> dict[Cell, tuple[Spread, Spread]]:
    return {
        cell: (found[other], found["td"])
        for cell, found in by_cell(select(rows, kind="train"), "test_accuracy").items()
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
