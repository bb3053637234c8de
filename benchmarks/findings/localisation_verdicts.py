"""Whether the claims on localisation hold: TD less BU on the same images, over runs.

The authors' scaling decides. What the other scaling and the control say stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.findings.aggregate import Cell, Spread, group_of, select
from benchmarks.findings.localisation_leads import Lead, leads
from benchmarks.findings.verdicts import Rule, Verdict, not_run
from benchmarks.runs.jobs import OWN_HEAT, POOLED_HEAT, Row

SCALING = "centred"
# "Slightly": a recall that falls by less than this, as a share.
SLIGHT = 0.1
CRITERION = (
    "the 95 % t interval over runs of TD less BU, on the images that both get right, with the "
    "authors' scaling of heatmaps"
)


def precision_higher(data: str) -> Rule:
    """TD's precision is higher: the interval over runs lies above 0."""
    return _localised(data, "precision", _above)


def recall_slightly_lower(data: str) -> Rule:
    """TD's recall is lower, but not by much: the interval lies between -SLIGHT and 0."""
    return _localised(data, "recall", _slightly_below)


def _above(lead: Lead) -> bool | None:
    return lead.value > 0 if lead.low > 0 or lead.high < 0 else None


def _slightly_below(lead: Lead) -> bool | None:
    if lead.low > 0 or lead.high < -SLIGHT:
        return False
    return True if lead.low > -SLIGHT and lead.high < 0 else None


def _localised(data: str, figure: str, holds: Callable[[Lead], bool | None]) -> Rule:
    def rule(rows: Sequence[Row]) -> Verdict:
        own = select(rows, kind="localisation", model="nin-light", data=data)
        found = leads(own, figure, scaling=SCALING)
        if not found:
            return not_run(f"exp3-localisation for NIN-light on {data}")
        cell, lead = next(iter(found.items()))
        # the images of one run say nothing of how trainings differ
        decided = holds(lead) if lead.over == "runs" else None
        reason = f"TD − BU = {lead.points}{_beside(own, figure, cell)}"
        return Verdict(_versus(own, figure, cell), decided, reason)

    return rule


def _versus(rows: Sequence[Row], figure: str, cell: Cell) -> str:
    shares = {
        arrangement: Spread.of(
            float(number)
            for row in select(rows, arrangement=arrangement, heatmap=OWN_HEAT, scaling=SCALING)
            if group_of(row).cell == cell and isinstance(number := row.get(figure), int | float)
        )
        for arrangement in ("bu", "td")
    }
    return f"BU {shares['bu'].percent}, TD {shares['td'].percent}"


def _beside(rows: Sequence[Row], figure: str, cell: Cell) -> str:
    others = {
        "scaled min-max": leads(rows, figure, scaling="min-max").get(cell),
        "TD's heatmap pooled to BU's resolution": leads(
            rows, figure, scaling=SCALING, heatmap=POOLED_HEAT
        ).get(cell),
        "PxAP, which hangs on no threshold": leads(rows, "pxap", scaling=SCALING).get(cell),
    }
    said = [f"; {name}: {100 * lead.value:+.2f}" for name, lead in others.items() if lead]
    return "".join(said)
