"""Which rows may be taken together, and which of several decide: those nearest to the paper's recipe."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Hashable, Iterable, Sequence

from benchmarks.findings.verdicts import SLICES
from benchmarks.runs.jobs import JSON, Row

# (name, value) of everything that departs from the recipe
Configuration = tuple[tuple[str, str], ...]
# they change rounding only: such rows are still the recipe's, but stay apart from others
_ROUNDING = ("channels_last", "compile")
# fewer runs than these have no interval
_ENOUGH_RUNS = 2

_PHRASES = {
    "epochs": "{0} of {1} epochs",
    "batch": "batch {0} instead of {1}",
    "learning_rate": "learning rate {0} instead of {1}",
    "weight_decay": "weight decay {0} instead of {1}",
    "precision": "{0} instead of {1} arithmetic",
    "images": "{0} of {1} images",
    "repeats": "{0} of {1} repeats",
    "effort": "shorter searches",
    "profile": "profile {0}, recorded without its configuration",
}
_WITHOUT_NUMBER = {
    "train_limit": "{0} training images instead of all",
    "test_limit": "{0} test images instead of all",
    "images": "{0} images instead of all",
    "norm_momentum": "batch norm momentum {0} instead of the authors'",
}


def departures_of(row: Row) -> dict[str, list[JSON]]:
    """From what departs from the paper's recipe to the row's value and the recipe's.

    Example:
        >>> departures_of({"kind": "train", "departures": {"epochs": [10, 50]}})
        {'epochs': [10, 50]}
    """
    recorded = row.get("departures")
    if isinstance(recorded, dict):
        return recorded
    # counts depend on no training
    return {} if row.get("kind") == "parameters" else {"profile": [row.get("profile"), "paper"]}


def configuration(row: Row) -> Configuration:
    """What rows that are taken together have in common; the recipes of two networks may differ."""
    found = departures_of(row)
    return tuple((name, json.dumps(found[name][0], sort_keys=True)) for name in sorted(found))


def is_recipe(row: Row) -> bool:
    """Was it measured as the paper's recipe says?

    Example:
        >>> is_recipe({"departures": {}}), is_recipe({"departures": {"epochs": [10, 50]}})
        (True, False)
    """
    return not set(departures_of(row)) - set(_ROUNDING)


def reasons(rows: Iterable[Row]) -> str:
    """Why results are a slice of the recipe; empty for the recipe's.

    Example:
        >>> reasons([{"departures": {"epochs": [10, 30]}}, {"departures": {"epochs": [10, 50]}}])
        '10 of 30 or 50 epochs'
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        for name, (ours, papers) in departures_of(row).items():
            if name not in _ROUNDING:
                for values, value in zip(
                    found.setdefault(name, ([], [])), (ours, papers), strict=True
                ):
                    values.append(_shown(value))
    return SLICES.join(_phrase(name, *values) for name, values in found.items())


def distance(row: Row) -> float:
    """How far from the recipe: the factors by which numbers differ, and about one e-fold for all else.

    Example:
        >>> distance({"departures": {"epochs": [10, 50]}}) < distance({"departures": {"epochs": [6, 50]}})
        True
    """
    return math.fsum(_apart(ours, papers) for ours, papers in departures_of(row).values())


def nearest(rows: Iterable[Row], networks: Collection[str]) -> list[Row]:
    """Of every measurement the rows of one configuration that compares these networks.

    Where several do, one in which every network has two runs goes first, then the one nearest to the
    recipe. Measurements that lack one of the networks are left out.

    Args:
        rows: of any number of configurations.
        networks: arrangements.
    """
    kept: list[Row] = []
    for own in _measurements(row for row in rows if row.get("arrangement") in networks):
        serving: list[Sequence[Row]] = [
            found for found in own if _arrangements(found) == set(networks)
        ]
        if serving:
            chosen = min(serving, key=_unfitness)
            kept.extend(chosen)
    return kept


def fullest(rows: Iterable[Row]) -> list[Row]:
    """Of every measurement the rows of the configuration with the most networks, then the nearest."""
    return [
        row
        for own in _measurements(rows)
        for row in min(own, key=lambda found: (-len(_arrangements(found)), _far(found)))
    ]


def _measurements(rows: Iterable[Row]) -> list[list[Sequence[Row]]]:
    """Per measured cell, per configuration, its rows."""
    found: dict[Hashable, dict[Configuration, list[Row]]] = {}
    for row in rows:
        # part of an experiment's attacks may have been run more fully than the others
        cell = tuple(
            row.get(name)
            for name in ("experiment", "kind", "model", "data", "augmented", "attack", "corruption")
        )
        found.setdefault(cell, {}).setdefault(configuration(row), []).append(row)
    return [list(own.values()) for own in found.values()]


def _arrangements(rows: Sequence[Row]) -> set[object]:
    return {row.get("arrangement") for row in rows}


def _unfitness(rows: Sequence[Row]) -> tuple[bool, float]:
    return not _has_intervals(rows), _far(rows)


def _has_intervals(rows: Sequence[Row]) -> bool:
    runs = {(row.get("arrangement"), row.get("run")) for row in rows}
    counts = [sum(name == own for own, _ in runs) for name in _arrangements(rows)]
    return min(counts) >= _ENOUGH_RUNS


def _far(rows: Sequence[Row]) -> float:
    return max(distance(row) for row in rows)


def _apart(ours: JSON, papers: JSON) -> float:
    numbers = [
        value for value in (ours, papers)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]  # fmt: skip
    if len(numbers) == 2:
        return abs(math.log(numbers[0] / numbers[1]))
    # a number instead of all of them: the more the nearer
    return 1 + 1 / numbers[0] if numbers else 1.0


def _phrase(name: str, ours: Sequence[str], papers: Sequence[str]) -> str:
    table = _WITHOUT_NUMBER if "None" in papers else _PHRASES
    given = (" or ".join(sorted(set(values), key=_by_length)) for values in (ours, papers))
    return table.get(name, f"{name.replace('_', ' ')} {{0}} instead of {{1}}").format(*given)


def _by_length(text: str) -> tuple[int, str]:
    # numbers in their order
    return len(text), text


def _shown(value: JSON) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
