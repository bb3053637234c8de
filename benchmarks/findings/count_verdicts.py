"""Whether a claim holds: the rules for numbers of parameters, which need no statistics."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.findings.aggregate import select
from benchmarks.findings.verdicts import Rule, Verdict, not_run
from benchmarks.runs.jobs import Row
from benchmarks.subjects.networks import model_title


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
