"""What each criterion says about the authors' own published figures.

Their figures have no spread, so that of a criterion only the part about sizes can be applied: which
way a difference goes, and whether it matters. A criterion that their own figures fail can't be used
against other networks without saying so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.findings.aggregate import Cell
from benchmarks.findings.comparisons import published_comparisons
from benchmarks.findings.published import published_scales
from benchmarks.findings.robustness_verdicts import GAIN
from benchmarks.findings.statistics import chance_of_as_many
from benchmarks.findings.verdicts import Rule, Verdict
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.curves import Comparison
from benchmarks.measures.fields import EXAMPLE
from benchmarks.runs.jobs import Row

Authors = Callable[[], Verdict]

_MODELS = {"LeNetFC": "lenet-fc", "NIN-light": "nin-light", "ResNet32": "resnet32", "NIN": "nin"}
_ARRANGEMENTS = ("bu", "td", "uniform", "reversed")


def nothing(why: str) -> Authors:
    """There are no figures that the criterion could be applied to."""
    return lambda: Verdict("", None, why)


def counted(rule: Rule) -> Authors:
    """A rule for numbers of parameters, on those of the authors' published networks."""
    return lambda: rule(published_parameters())


def example_agrees() -> Verdict:
    """The two figures of the printed example that are claimed to be the same."""
    first, last = EXAMPLE["TD, first convolution"], EXAMPLE["BU, last convolution"]
    return Verdict(f"in the example TD {first}, BU {last} pixels", first >= last, "")


def more_robust(attacks: Sequence[str], *, models: Sequence[str] | None = None) -> Authors:
    """TD is ahead in more than half of the curves of Fig. 6."""
    return _over_curves(attacks, models, "TD more robust", lambda found: found.advantage > 0)


def less_robust(attacks: Sequence[str], *, models: Sequence[str] | None = None) -> Authors:
    """TD is behind in more than half of the curves of Fig. 6."""
    return _over_curves(attacks, models, "TD less robust", lambda found: found.advantage < 0)


def no_gain(attacks: Sequence[str]) -> Authors:
    """In more than half of the curves of Fig. 6 TD has no lead that matters."""
    return _over_curves(
        attacks, None, "no gain that matters", lambda found: found.advantage < GAIN[found.measure]
    )


def most_vulnerable(level: str, cell: Cell) -> Authors:
    """The mean accuracy over the attacks of Fig. 5 is lowest where this level is perturbed."""

    def verdict() -> Verdict:
        found = [scales for attack in ATTACKS if (scales := published_scales(cell, attack))]
        means = {name: fmean(f[name] for f in found) for name in ("high", "medium", "low")}
        shown = ", ".join(f"{name} {100 * mean:.1f} %" for name, mean in means.items())
        return Verdict(shown, min(means, key=means.__getitem__) == level, "")

    return verdict


def published_parameters() -> list[Row]:
    """The sixteen counts of the authors' networks, with the paper's rounded ones, as rows."""
    path = Path(__file__).with_name("published_parameters.json")
    models = json.loads(path.read_text())["models"]
    return [
        {
            "kind": "parameters", "model": model, "arrangement": name,
            "parameters": models[title][name], "paper": paper,
        }
        for title, model in _MODELS.items()
        for name, paper in zip(_ARRANGEMENTS, models[title]["paper"], strict=True)
    ]  # fmt: skip


def _over_curves(
    attacks: Sequence[str],
    models: Sequence[str] | None,
    what: str,
    holds: Callable[[Comparison], bool],
) -> Authors:
    def verdict() -> Verdict:
        found = [
            holds(comparison)
            for (cell, attack), comparison in published_comparisons().items()
            if attack in attacks and (models is None or cell.model in models)
        ]
        count, cases = found.count(True), len(found)
        chance = f"exact binomial p = {chance_of_as_many(count, cases):.2g}"
        return Verdict(f"{what} in {count} of {cases} curves, {chance}", 2 * count > cases, "")

    return verdict
