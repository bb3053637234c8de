"""What the figures show as tables of numbers, and what the numbers rest on."""

from __future__ import annotations

import csv
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.findings.aggregate import (
    Cell,
    Group,
    Spread,
    by_cell,
    failed,
    group_of,
    select,
    spreads,
)
from benchmarks.findings.comparisons import comparisons, published_comparisons
from benchmarks.findings.published import PAPER_CELLS, published_scales
from benchmarks.measures.attacks import attack_title
from benchmarks.measures.curves import LEVELS, Curve
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES, ARRANGEMENTS
from benchmarks.subjects.datasets import data_title
from benchmarks.subjects.networks import model_title

Value = str | int | float | None
KINDS = {
    "parameters": "Table 1", "train": "Exp. 1", "robustness": "Exp. 2, ten attacks",
    "scales": "Exp. 2, levels", "strong": "strong attacks", "corruptions": "corruptions",
    "gradcam": "Exp. 3, Grad-CAM", "localisation": "Exp. 3, localisation",
}  # fmt: skip
STAMP = (
    "profile", "device", "cpu", "cores", "threads", "torch", "cuda", "python", "td_transform",
    "commit", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Numbers under headings.

    Args:
        name: of its file.
        title: over it.
        columns: headings, with units.
        lines: as long as `columns` each; None where there is nothing.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Value, ...], ...]

    def write_csv(self, path: Path) -> None:
        """With the headings in the first line."""
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.lines])


def parameter_table(rows: Sequence[Row]) -> Table | None:
    """Table 1; None without rows."""
    counted: dict[str, dict[str, Row]] = {}
    for row in select(rows, kind="parameters"):
        counted.setdefault(str(row["model"]), {})[str(row["arrangement"])] = row
    lines = [
        (model_title(model), *(
            _value(found[name].get(column)) if name in found else None
            for name in ARRANGEMENTS
            for column in ("parameters", "paper")
        ))
        for model, found in counted.items()
    ]  # fmt: skip
    columns = [
        heading
        for name in ARRANGEMENTS
        for heading in (ARRANGEMENT_TITLES[name], f"{ARRANGEMENT_TITLES[name]}, paper")
    ]
    return _table("table1_parameters", "Trainable parameters", ["network", *columns], lines)


def accuracy_table(rows: Sequence[Row]) -> Table | None:
    """The numbers of Fig. 4; None without rows."""
    lines = [
        (*_names(cell), ARRANGEMENT_TITLES[name], *_percent(spread), spread.runs)
        for cell, found in by_cell(select(rows, kind="train"), "test_accuracy").items()
        for name, spread in found.items()
    ]
    columns = ["network", "data", "arrangement", "test accuracy (%)", "deviation (points)", "runs"]
    return _table("fig4_accuracy", "Test accuracy", columns, lines)


def robustness_table(rows: Sequence[Row]) -> Table | None:
    """The numbers of Fig. 6; None without rows."""
    own = select(rows, kind="robustness")
    compared, published = comparisons(own), published_comparisons()
    found: dict[tuple[Cell, str], dict[str, list[Row]]] = {}
    for row in own:
        networks = found.setdefault((group_of(row).cell, str(row["attack"])), {})
        networks.setdefault(str(row["arrangement"]), []).append(row)
    lines: list[tuple[Value, ...]] = []
    for (cell, attack), networks in found.items():
        ours, authors = compared.get((cell, attack)), published.get((cell, attack))
        verdict = (str(ours) if ours else None, str(authors) if authors else None)
        for name, runs in networks.items():
            curve = Curve.of(runs)
            lines.append(
                (*_names(cell), attack_title(attack), ARRANGEMENT_TITLES[name],
                 *(_rounded(curve.l2_at(level), 3) for level in LEVELS),
                 _rounded(curve.plateau, 1), *(verdict if name == "td" else (None, None)))
            )  # fmt: skip
    columns = [
        "network", "data", "attack", "arrangement",
        *(f"L2 at {level} points" for level in LEVELS), "final loss (points)",
        "TD over BU [95 %]", "authors' TD over BU",
    ]  # fmt: skip
    return _table("fig6_robustness", "L2 at accuracy losses", columns, lines)


def levels_table(rows: Sequence[Row]) -> Table | None:
    """The numbers of Fig. 5 and its supplement; None without rows."""
    own = select(rows, kind="scales")
    clean = by_cell(own, "clean_accuracy")
    lines = [
        (*_names(_group(key).cell), attack_title(str(key[1])), str(key[2]),
         *_percent(spread), _percent(clean[_group(key).cell][_group(key).arrangement])[0],
         _authors_level(_group(key).cell, str(key[1]), str(key[2])))
        for key, spread in spreads(own, "accuracy", by=("attack", "perturbed")).items()
    ]  # fmt: skip
    columns = [
        "network", "data", "attack", "perturbed", "accuracy (%)", "deviation (points)",
        "original images (%)", "authors (%)",
    ]  # fmt: skip
    return _table("fig5_levels", "Accuracy of TD when levels are perturbed", columns, lines)


def strong_table(rows: Sequence[Row]) -> Table | None:
    """Accuracy left, or median L2 of what fooled the network; None without rows."""
    own = select(rows, kind="strong")
    found: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in own:
        key = (group_of(row), str(row["attack"]), str(row["norm"]), row.get("epsilon"))
        found.setdefault(key, []).append(row)  # type: ignore[arg-type]
    lines: list[tuple[Value, ...]] = []
    for (group, attack, norm, epsilon), runs in found.items():
        accuracies = spreads(runs, "robust_accuracy")
        accuracy = next(iter(accuracies.values()), None)
        listed = [row for row in runs if isinstance(row.get("l2"), list)]
        half = Curve.of(listed).l2_at(50) if listed else None
        assert isinstance(group, Group)
        lines.append(
            (*_names(group.cell), ARRANGEMENT_TITLES[group.arrangement], str(attack), str(norm),
             _value(epsilon), *(_percent(accuracy) if accuracy else (None, None)),
             _rounded(half, 3))
        )  # fmt: skip
    columns = [
        "network", "data", "arrangement", "attack", "norm", "size", "accuracy left (%)",
        "deviation (points)", "L2 at 50 points",
    ]  # fmt: skip
    return _table("strong_attacks", "Accuracy under strong attacks", columns, lines)


def corruption_table(rows: Sequence[Row]) -> Table | None:
    """Accuracy per corruption and severity; None without rows."""
    own = select(rows, kind="corruptions")
    found: dict[tuple[Group, str], dict[object, Spread]] = {}
    for key, spread in spreads(own, "accuracy", by=("corruption", "severity")).items():
        found.setdefault((_group(key), str(key[1])), {})[key[2]] = spread
    lines = [
        (*_names(group.cell), ARRANGEMENT_TITLES[group.arrangement], corruption,
         *(_percent(by_severity[s])[0] if s in by_severity else None for s in range(1, 6)))
        for (group, corruption), by_severity in found.items()
    ]  # fmt: skip
    columns = ["network", "data", "arrangement", "corruption"]
    columns += [f"severity {severity} (%)" for severity in range(1, 6)]
    return _table("corruptions", "Accuracy under common corruptions", columns, lines)


def localisation_table(rows: Sequence[Row]) -> Table | None:
    """The numbers of Fig. 9; None without rows."""
    own = select(rows, kind="localisation")
    measures = ("precision", "recall", "iou", "pointing")
    found = {measure: by_cell(own, measure) for measure in measures}
    lines = [
        (*_names(cell), ARRANGEMENT_TITLES[name],
         *(value for measure in measures
           for value in _optional_percent(found[measure].get(cell, {}).get(name))),
         spread.runs)
        for cell, networks in found["precision"].items()
        for name, spread in networks.items()
    ]  # fmt: skip
    columns = [f"{measure}{unit}" for measure in measures for unit in (" (%)", " ± (points)")]
    columns = ["network", "data", "arrangement", *columns, "runs"]
    return _table("fig9_localisation", "Grad-CAM masks against objects", columns, lines)


MEASURED = (
    parameter_table, accuracy_table, robustness_table, levels_table, strong_table,
    corruption_table, localisation_table,
)  # fmt: skip


# What the numbers rest on


def provenance_table(rows: Sequence[Row]) -> Table | None:
    """Hardware, versions, commits and seeds, with how much was measured there."""
    found: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_value(row.get(name)) for name in STAMP), []).append(row)
    lines = [
        (*stamp, len(own), len({row.get("job") for row in own}), min(_dates(own)), max(_dates(own)))
        for stamp, own in found.items()
    ]
    columns = [*STAMP, "rows", "jobs", "first", "last"]
    return _table("provenance", "Hardware, versions, commits, seeds", columns, lines)


def coverage_table(rows: Sequence[Row]) -> Table:
    """Per cell what was run, under which profile and how often; None where it was not."""
    cells = list(dict.fromkeys((*PAPER_CELLS, *(
        group_of(row).cell for row in rows if row["kind"] != "parameters"
    ))))  # fmt: skip
    kinds = [kind for kind in KINDS if kind != "parameters"]
    lines: list[tuple[Value, ...]] = []
    for cell in cells:
        own = [row for row in rows if row["kind"] != "parameters" and group_of(row).cell == cell]
        lines.append((*_names(cell), *(_covered(select(own, kind=kind)) for kind in kinds)))
    headings = ("network", "data", *(KINDS[kind] for kind in kinds))
    return Table("coverage", "What was run", headings, tuple(lines))


def failed_table(rows: Sequence[Row]) -> Table | None:
    """Jobs that ended without a result; None where all went well."""
    lines = [
        (str(row.get("job")), str(row.get("kind")), *map(_value, (
            row.get("model"), row.get("arrangement"), row.get("data"), row.get("run"),
            row.get("error"))))
        for row in failed(rows)
    ]  # fmt: skip
    columns = ["job", "kind", "network", "arrangement", "data", "run", "error"]
    return _table("failed", "Failed jobs", columns, lines)


def _table(
    name: str, title: str, columns: Sequence[str], lines: Sequence[tuple[Value, ...]]
) -> Table | None:
    return Table(name, title, tuple(columns), tuple(lines)) if lines else None


def _covered(rows: Sequence[Row]) -> str | None:
    if not rows:
        return None
    profiles = "/".join(sorted({str(row["profile"]) for row in rows}))
    runs = len({row.get("run") for row in rows})
    names = [ARRANGEMENT_TITLES[a] for a in ARRANGEMENTS if select(rows, arrangement=a)]
    return f"{profiles}: {', '.join(names)}; {runs} run{'s' * (runs > 1)}"


def _names(cell: Cell) -> tuple[str, str]:
    return model_title(cell.model), data_title(cell.data, cell.augmented)


def _group(key: Sequence[Hashable]) -> Group:
    group = key[0]
    assert isinstance(group, Group)
    return group


def _authors_level(cell: Cell, attack: str, perturbed: str) -> float | None:
    accuracy = published_scales(cell, attack).get(perturbed)
    return None if accuracy is None else round(100 * accuracy, 1)


def _percent(spread: Spread) -> tuple[float, float | None]:
    return round(100 * spread.mean, 2), _rounded(100 * spread.deviation, 2)


def _optional_percent(spread: Spread | None) -> tuple[float | None, float | None]:
    return _percent(spread) if spread else (None, None)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)


def _value(value: object) -> Value:
    return value if isinstance(value, str | int | float) else None


def _dates(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(row.get("finished", ""))[:10] for row in rows]
