"""Whether a claim holds: the rules for accuracies and parameter counts.

A claim of "better" holds where the difference is larger than the spread and does not hold where it
is that large the other way round; a claim of "the same" holds where a difference that matters is
ruled out. A difference within the spread, or without one, decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.findings.aggregate import Cell, Spread, by_cell, pooled_deviation, select
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES
from benchmarks.subjects.networks import model_title

# A difference in test accuracy that matters, as a share.
MARGIN = 0.01


@dataclass(frozen=True)
class Verdict:
    """What our rows say about a claim.

    Args:
        ours: our figure with its spread; empty where nothing was run.
        holds: None where that can't be said.
        reason: what decided.
    """

    ours: str
    holds: bool | None
    reason: str

    @property
    def label(self) -> str:
        """`holds`, `does not hold`, `not run`, or `undecided` where it was run but tells nothing."""
        if self.holds is None:
            return "undecided" if self.ours else "not run"
        return "holds" if self.holds else "does not hold"


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


def more(one: Spread, other: Spread) -> bool | None:
    """Is `one` larger by more than the pooled standard deviation?

    None where the difference is within it, or where there is none, of single runs.
    """
    return beyond(one.mean - other.mean, pooled_deviation(one, other))


def beyond(lead: float, spread: float) -> bool | None:
    """Is a lead larger than the spread? False where it is that large the other way round.

    Example:
        >>> beyond(0.3, 0.2), beyond(-0.3, 0.2), beyond(0.1, 0.2), beyond(0.3, math.nan)
        (True, False, None, None)
    """
    return lead > 0 if abs(lead) > spread else None


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


def within(worst: float, deviation: float, margin: float = MARGIN) -> bool | None:
    """Is a difference smaller than a margin? None where the spread leaves it open."""
    if math.isnan(deviation):
        return None
    if worst + deviation <= margin:
        return True
    return False if worst - deviation > margin else None


# Exp 1


def on_par(other: str) -> Rule:
    """TD is not worse than another arrangement by a difference that matters, in every cell."""

    def rule(rows: Sequence[Row]) -> Verdict:
        pairs = _pairs(rows, other)
        states = {
            cell: within(best.mean - td.mean, pooled_deviation(best, td))
            for cell, (best, td) in pairs.items()
        }
        if not states:
            return not_run(f"exp1 for {ARRANGEMENT_TITLES[other]} and TD")
        return Verdict(_listed(pairs, other), all_of(states.values()), _tally(states, "on par"))

    return rule


def surpasses(rows: Sequence[Row]) -> Verdict:
    """TD is better than BU beyond the spread in at least one cell."""
    pairs = _pairs(rows)
    states = {cell: more(td, bu) for cell, (bu, td) in pairs.items()}
    if not states:
        return not_run("exp1 for BU and TD")
    unknown = None in states.values()
    holds = True if True in states.values() else (None if unknown else False)
    return Verdict(_listed(pairs), holds, _tally(states, "TD better"))


def reversed_best(rows: Sequence[Row]) -> Verdict:
    """TD_rev is better than TD and TD_uni beyond the spread in more than half of the cells."""
    cells = _complete(rows)
    if not cells:
        return not_run("exp1 for TD, TD_uni and TD_rev")
    states = {
        cell: all_of(more(found["reversed"], found[name]) for name in ("td", "uniform"))
        for cell, found in cells.items()
    }
    first = sum(
        max(found, key=lambda name, found=found: found[name].mean) == "reversed"  # type: ignore[misc]
        for found in cells.values()
    )
    ours = f"{_best_means(cells)}; TD_rev has the highest mean in {first} of {len(cells)}"
    return Verdict(ours, majority(states.values()), _tally(states, "TD_rev best"))


def variants_agree(rows: Sequence[Row]) -> Verdict:
    """NIN's and NIN-light's three TD variants differ by less than matters, in every cell."""
    cells = {
        cell: found for cell, found in _complete(rows).items() if cell.model in ("nin", "nin-light")
    }
    if not cells:
        return not_run("exp1 for the TD variants of NIN or NIN-light")
    states = {}
    for cell, found in cells.items():
        means = [spread.mean for spread in found.values()]
        states[cell] = within(max(means) - min(means), pooled_deviation(*found.values()))
    return Verdict(_best_means(cells), all_of(states.values()), _tally(states, "the same"))


def applicable(rows: Sequence[Row]) -> Verdict:
    """At least two architectures and two data sets on which TD is on par."""
    pairs = _pairs(rows)
    if not pairs:
        return not_run("exp1 for BU and TD")
    good = [
        cell
        for cell, (bu, td) in pairs.items()
        if within(bu.mean - td.mean, pooled_deviation(bu, td))
    ]
    models, sets = {cell.model for cell in good}, {cell.data for cell in good}
    enough = len(models) >= 2 and len(sets) >= 2
    run = {cell.model for cell in pairs}, {cell.data for cell in pairs}
    could = min(map(len, run)) >= 2 and not any(
        math.isnan(bu.deviation) for bu, _ in pairs.values()
    )
    ours = f"on par: {len(models)} of {len(run[0])} models, {len(sets)} of {len(run[1])} data sets"
    reason = "; ".join(cell.title for cell in good) or "on par nowhere"
    return Verdict(ours, enough or (False if could else None), reason)


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
    changes = "; ".join(
        f"{cell.title}: {_versus(one, td, other)}" for cell, (one, td) in pairs.items()
    )
    middle = median(td.mean - one.mean for one, td in pairs.values())
    return f"{changes}; median difference {100 * middle:+.2f} points"


def _best_means(cells: dict[Cell, dict[str, Spread]]) -> str:
    return "; ".join(
        f"{cell.title}: "
        + ", ".join(f"{ARRANGEMENT_TITLES[name]} {s.percent}" for name, s in found.items())
        for cell, found in cells.items()
    )


def _versus(one: Spread, td: Spread, name: str = "bu") -> str:
    return f"{ARRANGEMENT_TITLES[name]} {one.percent}, TD {td.percent}"


def _tally(states: dict[Cell, bool | None], what: str) -> str:
    found = list(states.values())
    parts = [f"{what} in {found.count(True)} of {len(found)}"]
    for state, words in ((False, "not in"), (None, "within the spread, or single runs, in")):
        named = [cell.title for cell, found_state in states.items() if found_state is state]
        if named:
            parts.append(f"{words} {', '.join(named)}")
    return "; ".join(parts)
