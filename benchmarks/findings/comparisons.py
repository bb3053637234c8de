"""TD against BU under every attack: from our rows, and from the authors' Fig. 6."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.findings.aggregate import Cell, Group, group_of, select
from benchmarks.findings.published import PAPER_CELLS, PublishedCurve, published_curve
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.curves import (
    LEVELS,
    Comparison,
    Curve,
    compare,
    measure_of,
    median_log_ratio,
)
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import PAIR


def compare_published(
    bu: PublishedCurve, td: PublishedCurve, *, fixed_size: bool = False
) -> Comparison:
    """The same from the authors' figures, which have no spread."""
    one, other = (
        np.array([[_infinite(curve.l2_at_loss[level]) for level in LEVELS]]) for curve in (bu, td)
    )
    ratio = float(median_log_ratio(one, other)[0])
    by_loss = fixed_size or bool(np.isnan(ratio))
    advantage = bu.plateau - td.plateau if by_loss else ratio
    return Comparison(measure_of(by_loss), advantage, np.nan, np.nan)


def comparisons(rows: Sequence[Row]) -> dict[tuple[Cell, str], Comparison]:
    """Their curves (Fig. 6), for every cell and attack whose rows hold per-image L2 for both."""
    found: dict[tuple[Cell, str], dict[str, list[Row]]] = {}
    for row in select(rows, arrangement=PAIR):
        if isinstance(row.get("l2"), list):
            key = (group_of(row).cell, str(row["attack"]))
            found.setdefault(key, {}).setdefault(str(row["arrangement"]), []).append(row)
    return {
        key: compare(Curve.of(pair["bu"]), Curve.of(pair["td"]), fixed_size=_fixed_size(key[1]))
        for key, pair in found.items()
        if len(pair) == 2
    }


def published_comparisons() -> dict[tuple[Cell, str], Comparison]:
    """TD against BU in the authors' own Fig. 6."""
    found = {}
    for cell in PAPER_CELLS:
        bu, td = (Group(cell.model, name, cell.data, cell.augmented) for name in PAIR)
        for attack in ATTACKS:
            one, other = published_curve(bu, attack), published_curve(td, attack)
            if one and other:
                found[cell, attack] = compare_published(one, other, fixed_size=_fixed_size(attack))
    return found


def _fixed_size(attack: str) -> bool:
    return attack in ATTACKS and ATTACKS[attack].fixed_size


def _infinite(value: float | None) -> float:
    return np.inf if value is None else value
