"""Whether a claim holds: the rules for attacks, perturbed levels and corruptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from benchmarks.findings.aggregate import Cell, by_cell, group_of, select
from benchmarks.findings.comparisons import published_comparisons
from benchmarks.findings.published import published_scales
from benchmarks.findings.robustness_pairs import masking, paired_comparisons, paired_survivals
from benchmarks.findings.statistics import Interval, mean_interval, welch
from benchmarks.findings.verdicts import Rule, Verdict, all_of, majority, not_run
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.curves import Comparison
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import PAIR

# A gain in robustness that matters: 10 % in L2, 5 points where final losses are compared.
GAIN = {"l2 ratio": math.log(1.1), "loss difference": 5.0}
# An accuracy, as a share, below which nothing is left to compare.
LOST = 0.05

Compared = Mapping[tuple[Cell, str], Comparison]


@dataclass(frozen=True)
class Tally:
    """Cells and attacks in which TD is the more robust, or the less, in all or beyond the spread."""

    cases: int
    higher: int
    better: int
    lower: int
    worse: int
    middle: str

    @staticmethod
    def of(found: Collection[Comparison]) -> Tally:
        return Tally(
            cases=len(found),
            higher=sum(c.advantage > 0 for c in found),
            better=sum(c.better for c in found),
            lower=sum(c.advantage < 0 for c in found),
            worse=sum(c.worse for c in found),
            middle=_middle(found),
        )

    def __str__(self) -> str:
        return (
            f"TD more robust in {self.higher} of {self.cases} ({self.better} beyond the spread), "
            f"less in {self.lower} ({self.worse} beyond); {self.middle}"
        )


def more_robust(attacks: Sequence[str], *, models: Sequence[str] | None = None) -> Rule:
    """TD is the more robust beyond the spread in more than half of the cells and attacks."""
    return _rule(attacks, models, lambda found: majority(c.state for c in found))


def less_robust(attacks: Sequence[str], *, models: Sequence[str] | None = None) -> Rule:
    """TD is the less robust beyond the spread in more than half of the cells and attacks."""
    return _rule(attacks, models, lambda found: majority(_negated(c.state) for c in found))


def no_gain(attacks: Sequence[str]) -> Rule:
    """In more than half of the cells and attacks a gain that matters is ruled out."""

    def holds(found: Collection[Comparison]) -> bool | None:
        gains = Tally.of(found).better
        if 2 * _without_gain(found) > len(found):
            return True
        return False if 2 * gains >= len(found) else None

    return _rule(
        attacks, None, holds,
        lambda found: f"gain ruled out in {_without_gain(found)} of {len(found)}; ",
    )  # fmt: skip


def _rule(
    attacks: Sequence[str],
    models: Sequence[str] | None,
    holds: Callable[[Collection[Comparison]], bool | None],
    first: Callable[[Collection[Comparison]], str] = lambda _: "",
) -> Rule:
    """A rule over all cells (of some models) and attacks, with what is said before the tally."""

    def rule(rows: Sequence[Row]) -> Verdict:
        own = select(rows, kind="robustness", attack=tuple(attacks))
        found = _chosen(paired_comparisons(own), attacks, models)
        if not found:
            names = ", ".join(models or ("BU and TD",))
            return not_run(f"exp2 for {names} under {', '.join(attacks)}")
        cases = list(found.values())
        signs = masking(rows, {cell for cell, _ in found})
        ours = f"{first(cases)}{Tally.of(cases)}; {signs}"
        return Verdict(ours, holds(cases), _by_cell(found))

    return rule


def _negated(state: bool | None) -> bool | None:
    return None if state is None else not state


def _without_gain(found: Collection[Comparison]) -> int:
    return sum(c.high < GAIN[c.measure] for c in found)


def published_tally(attacks: Sequence[str], *, models: Sequence[str] | None = None) -> str:
    """The authors' own figures, compared in the same way."""
    tally = Tally.of(_chosen(published_comparisons(), attacks, models).values())
    return (
        f"TD more robust in {tally.higher} of {tally.cases}, less in {tally.lower}; {tally.middle}"
    )


# Perturbed levels


def most_vulnerable(level: str, cell: Cell) -> Rule:
    """A level whose perturbation costs the most accuracy, over all attacks, run by run."""

    def rule(rows: Sequence[Row]) -> Verdict:
        chosen = _of(select(rows, kind="scales"), cell)
        levels = {
            name: _accuracies(select(chosen, arrangement="td", perturbed=name))
            for name in ("high", "medium", "low")
        }
        if not all(levels.values()):
            return not_run(f"exp2-scales for {cell.title}")
        ours = ", ".join(
            f"{name} {100 * mean(runs.values()):.1f} %" for name, runs in levels.items()
        )
        known = levels.pop(level)
        leads = {name: _gap(runs, known) for name, runs in levels.items()}
        gaps = "; ".join(f"{name} − {level} = {lead.points()}" for name, lead in leads.items())
        return Verdict(ours, all_of(lead.sign for lead in leads.values()), gaps)

    return rule


def _gap(runs: Mapping[object, float], known: Mapping[object, float]) -> Interval:
    # both levels of a run are of the same network and images
    return mean_interval([accuracy - known[run] for run, accuracy in runs.items() if run in known])


def published_levels(cell: Cell) -> str:
    """Mean accuracy over the ten attacks in the authors' Fig. 5."""
    figures = [found for attack in ATTACKS if (found := published_scales(cell, attack))]
    means = {
        name: np.mean([found[name] for found in figures]) for name in ("high", "medium", "low")
    }
    return ", ".join(f"{name} {100 * mean:.1f} %" for name, mean in means.items())


# Beyond the paper


def survives_strong_attacks(rows: Sequence[Row]) -> Verdict:
    """TD keeps more images (or needs a larger L2) beyond the spread in more than half."""
    own = select(rows, kind="strong")
    survivals, minimal = paired_survivals(own), paired_comparisons(own)
    if not survivals and not minimal:
        return not_run("strong attacks for BU and TD")
    lost = {key for key in survivals if _both_lost(own, *key)}
    told = {
        **{
            (cell, _shown_strength(s)): c
            for (cell, s), c in survivals.items()
            if (cell, s) not in lost
        },
        **minimal,
    }
    states = [compared.state for compared in told.values()]
    signs = masking(rows, {cell for cell, _ in (*survivals, *minimal)})
    ours = (
        f"TD more robust beyond the spread in {states.count(True)} of {len(told)}, less in "
        f"{states.count(False)}; both keep less than {100 * LOST:.0f} % in {len(lost)} more; {signs}"
    )
    # the report's table of strong attacks has every case
    outside = [
        f"{attack}, {cell.title}: {c}" for (cell, attack), c in told.items() if c.state is not None
    ]
    return Verdict(
        ours, majority(states) if told else None, "; ".join(outside) or "all within the spread"
    )


def _both_lost(rows: Sequence[Row], cell: Cell, strength: tuple[str, str, float]) -> bool:
    attack, norm, epsilon = strength
    same = select(rows, attack=attack, norm=norm, epsilon=epsilon, arrangement=PAIR)
    left = [row["robust_accuracy"] for row in _of(same, cell)]
    return all(isinstance(share, int | float) and share < LOST for share in left)


def _shown_strength(strength: tuple[str, str, float]) -> str:
    attack, norm, epsilon = strength
    return f"{attack} {norm} {epsilon:.3g}"


def survives_corruptions(rows: Sequence[Row]) -> Verdict:
    """TD's accuracy, mean over corruptions and severities, is higher in more than half."""
    own = select(rows, kind="corruptions")
    leads: dict[Cell, Interval] = {}
    for cell, found in by_cell(own, "accuracy").items():
        if set(PAIR) <= set(found):
            bu, td = (
                list(_accuracies(select(_of(own, cell), arrangement=name)).values())
                for name in PAIR
            )
            leads[cell] = welch(td, bu)
    if not leads:
        return not_run("corruptions for BU and TD")
    states = [lead.sign for lead in leads.values()]
    ours = (
        f"TD better in {states.count(True)} of {len(leads)} cells, worse in {states.count(False)}"
    )
    shown = "; ".join(f"{cell.title}: TD − BU = {lead.points()}" for cell, lead in leads.items())
    return Verdict(ours, majority(states), shown)


def _of(rows: Sequence[Row], cell: Cell) -> list[Row]:
    return [row for row in rows if group_of(row).cell == cell]


def _accuracies(rows: Sequence[Row]) -> dict[object, float]:
    """Of each run, the mean over attacks, or over corruptions and severities."""
    runs: dict[object, list[float]] = {}
    for row in rows:
        accuracy = row["accuracy"]
        assert isinstance(accuracy, int | float)
        runs.setdefault(row.get("run"), []).append(accuracy)
    return {run: mean(found) for run, found in runs.items()}


def _chosen(
    found: Compared, attacks: Collection[str], models: Collection[str] | None
) -> dict[tuple[Cell, str], Comparison]:
    return {
        (cell, attack): comparison
        for (cell, attack), comparison in found.items()
        if attack in attacks and (models is None or cell.model in models)
    }


def _middle(found: Iterable[Comparison]) -> str:
    kinds: dict[str, list[Comparison]] = {}
    for comparison in found:
        kinds.setdefault(comparison.measure, []).append(comparison)
    parts = []
    for measure, members in kinds.items():
        advantage = median(member.advantage for member in members)
        if measure == "l2 ratio":
            parts.append(f"median L2 ×{math.exp(advantage):.2f}")
        else:
            parts.append(f"median final loss {0 - advantage:+.1f} points")
    return ", ".join(parts)


def _by_cell(found: Compared) -> str:
    cells = dict.fromkeys(cell for cell, _ in found)
    return "; ".join(
        f"{cell.title}: "
        + ", ".join(
            f"{attack.removesuffix('Attack')} {comparison}"
            for (other, attack), comparison in found.items()
            if other == cell
        )
        for cell in cells
    )
