"""From rows to means and standard deviations over runs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import BenchmarkError
from benchmarks.findings.configurations import configuration, fullest
from benchmarks.runs.jobs import Row
from benchmarks.runs.store import Store
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES, ARRANGEMENTS
from benchmarks.subjects.datasets import data_title
from benchmarks.subjects.networks import model_title

# What tells two measurements apart; of rows that agree in all of it, and in their configuration, only
# the newest counts.
IDENTITY = (
    "experiment", "kind", "model", "arrangement", "data", "augmented", "run",
    "attack", "perturbed", "norm", "epsilon", "corruption", "severity", "layer", "picture",
    "threshold", "heatmap", "scaling", "distance",
)  # fmt: skip


class Cell(NamedTuple):
    """What was trained on what."""

    model: str
    data: str
    augmented: bool

    @property
    def names(self) -> tuple[str, str]:
        """Network and data as the paper writes them."""
        return model_title(self.model), data_title(self.data, self.augmented)

    @property
    def title(self) -> str:
        """Both in one.

        Example:
            >>> Cell("nin", "cifar10", True).title
            'NIN, CIFAR10_aug'
        """
        return ", ".join(self.names)


class Group(NamedTuple):
    """One network of a cell."""

    model: str
    arrangement: str
    data: str
    augmented: bool

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.data, self.augmented)

    @property
    def names(self) -> tuple[str, str, str]:
        """Network, data and arrangement as the paper writes them."""
        return (*self.cell.names, ARRANGEMENT_TITLES[self.arrangement])


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs.

    Args:
        mean: over the runs.
        deviation: sample standard deviation, nan for a single run.
        runs: how many there are.
        values: one per run.

    Example:
        >>> print(Spread.of([0.9, 0.92]).percent)
        91.00 ± 1.41 % (2 runs)
    """

    mean: float
    deviation: float
    runs: int
    values: tuple[float, ...] = ()

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """From one value per run.

        Raises:
            ValueError: there is no value.
        """
        found = list(values)
        if not found:
            raise ValueError("a spread needs at least one value")
        mean = math.fsum(found) / len(found)
        if len(found) == 1:
            return Spread(mean, math.nan, 1, tuple(found))
        squares = math.fsum((value - mean) ** 2 for value in found)
        deviation = math.sqrt(squares / (len(found) - 1))
        return Spread(mean, deviation, len(found), tuple(found))

    @property
    def percent(self) -> str:
        """Of a share from 0 to 1."""
        if self.runs == 1:
            return f"{100 * self.mean:.2f} % (1 run)"
        return f"{100 * self.mean:.2f} ± {100 * self.deviation:.2f} % ({self.runs} runs)"


def read_rows(folders: Iterable[Path]) -> list[Row]:
    """The rows of several results folders.

    Raises:
        BenchmarkError: a folder holds no results.
    """
    rows: list[Row] = []
    for folder in folders:
        if not (folder / "results.jsonl").exists():
            raise BenchmarkError(
                f"results folder {folder}", seen="no results.jsonl in it",
                expected="a folder that an experiment has written to",
                remedy="run an experiment first, or name its folder with --results",
            )  # fmt: skip
        rows += Store(folder).rows()
    return rows


def measured(rows: Iterable[Row]) -> list[Row]:
    """The rows that count: done, and the newest of each measurement and configuration."""
    newest: dict[Hashable, Row] = {}
    for row in sorted(rows, key=lambda row: str(row.get("finished", ""))):
        if row.get("status") == "done":
            identity = tuple(_hashable(row.get(name)) for name in IDENTITY)
            newest[identity, configuration(row)] = row
    return list(newest.values())


def current(rows: Iterable[Row]) -> list[Row]:
    """Of these one configuration per cell: networks are compared only under the same recipe.

    Where a cell was run under several, the one with the most arrangements is taken, and among equals
    the one nearest to the paper's recipe.
    """
    return fullest(measured(rows))


def failed(rows: Iterable[Row]) -> list[Row]:
    """Rows of jobs that never ended well: each job's last."""
    last = {str(row["job"]): row for row in rows if "job" in row}
    return [row for row in last.values() if row.get("status") != "done"]


def select(rows: Iterable[Row], **fixed: Any) -> list[Row]:
    """Rows whose columns have these values; a tuple allows each of its members."""

    def fits(row: Row) -> bool:
        return all(
            row.get(name) in value if isinstance(value, tuple) else row.get(name) == value
            for name, value in fixed.items()
        )

    return [row for row in rows if fits(row)]


def group_of(row: Mapping[str, Any]) -> Group:
    """The network that a row is about."""
    return Group(row["model"], row["arrangement"], row["data"], bool(row.get("augmented", False)))


def spreads(
    rows: Iterable[Row], value: str, *, by: Sequence[str] = ()
) -> dict[tuple[Hashable, ...], Spread]:
    """Mean and standard deviation of a column over runs.

    Args:
        rows: as `current` returns them.
        value: a column of numbers; rows without it are passed over.
        by: columns beside the network that tell measurements apart.

    Returns:
        From (group, *by) to the spread, in the order of the rows.

    Example:
        >>> row = {"model": "nin", "arrangement": "td", "data": "digits", "augmented": False}
        >>> found = spreads([{**row, "run": run, "x": float(run)} for run in (0, 1)], "x")
        >>> found[(Group("nin", "td", "digits", False),)].mean
        0.5
    """
    values: dict[tuple[Hashable, ...], list[float]] = {}
    for row in rows:
        number = row.get(value)
        if isinstance(number, int | float) and not isinstance(number, bool):
            key = (group_of(row), *(_hashable(row.get(name)) for name in by))
            values.setdefault(key, []).append(float(number))
    return {key: Spread.of(found) for key, found in values.items()}


def by_cell(rows: Iterable[Row], value: str) -> dict[Cell, dict[str, Spread]]:
    """From each cell to its arrangements, in the paper's order."""
    cells: dict[Cell, dict[str, Spread]] = {}
    for (group,), spread in spreads(rows, value).items():
        assert isinstance(group, Group)
        cells.setdefault(group.cell, {})[group.arrangement] = spread
    return {
        cell: {name: found[name] for name in ARRANGEMENTS if name in found}
        for cell, found in cells.items()
    }


def _hashable(value: object) -> Hashable:
    return tuple(value) if isinstance(value, list) else value
