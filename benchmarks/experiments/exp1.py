"""Experiment 1: test accuracy of the bottom-up network and the three top-down ones (Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks.experiments.experiment import Experiment
from benchmarks.measures.training import train
from benchmarks.runs.jobs import Row
from benchmarks.runs.recipes import trainings
from benchmarks.subjects.arrangements import ARRANGEMENTS
from td_transform.table import format_table


def table(rows: Sequence[Row]) -> str:
    """A line per model and data set, a column per arrangement: mean and standard deviation in %."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        data = f"{row['data']}{', augmented' if row['augmented'] else ''}"
        of_model = found.setdefault((str(row["model"]), data), {})
        accuracies = of_model.setdefault(str(row["arrangement"]), [])
        accuracies.append(float(row["test_accuracy"]))  # type: ignore[arg-type]
    columns = [a for a in ARRANGEMENTS if any(a in cells for cells in found.values())]
    lines = [
        [*names, str(max(map(len, cells.values()))), *(spread(cells.get(a, [])) for a in columns)]
        for names, cells in found.items()
    ]
    return "\n".join(format_table(["model", "data", "runs", *columns], lines))


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in %.

    Example:
        >>> spread([0.98, 0.99]), spread([0.5]), spread([])
        ('98.50 ± 0.71', '50.00', '')
    """
    if not shares:
        return ""
    middle = f"{100 * mean(shares):.2f}"
    return f"{middle} ± {100 * stdev(shares):.2f}" if len(shares) > 1 else middle


EXPERIMENT = Experiment(
    name="exp1",
    summary="Test accuracy of bottom-up and top-down networks (paper, Fig. 4).",
    jobs=trainings,
    handlers={"train": train},
    table=table,
)
