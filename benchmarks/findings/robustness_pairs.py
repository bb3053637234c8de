"""TD against BU image by image, and what speaks against believing it: from rows of results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from benchmarks.findings.aggregate import Cell, Group, group_of, select
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.paired import PairedComparison, compare_pairs, mcnemar
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES, PAIR

# A black-box attack that comes closer than the white-box ones, by more than this share of the L2 ...
_CLOSER = 0.01
# ... on more than this share of the images (AutoAttack's own threshold is 0.2 points of accuracy).
_OFTEN = 0.002
_WHITE_BOX = ("DeepFool", "FAB")


def paired_comparisons(rows: Sequence[Row]) -> dict[tuple[Cell, str], PairedComparison]:
    """For every cell and attack whose rows hold the minimal L2 of the same images for both.

    Rows of the authors' searches (`distance` linf) are not judged: they are to be compared with the
    authors' figures.
    """
    own = [row for row in rows if isinstance(row.get("l2"), list) and closest(row)]
    found = {}
    for key, (bu, td) in _pairs(own, lambda row: str(row["attack"])).items():
        attack = key[1]
        fixed_size = attack in ATTACKS and ATTACKS[attack].fixed_size
        compared = compare_pairs(_listed(bu, "l2"), _listed(td, "l2"), fixed_size=fixed_size)
        if compared is not None:
            found[key[0], str(attack)] = compared
    return found


def paired_survivals(rows: Sequence[Row]) -> dict[tuple[Cell, Any], PairedComparison]:
    """The same for attacks of bounded size: by cell and (attack, norm, size)."""
    own = [row for row in rows if isinstance(row.get("right"), list)]
    found = {}
    for key, (bu, td) in _pairs(own, _strength).items():
        pairs = [
            (bool(one), bool(other))
            for first, second in zip(_listed(bu, "right"), _listed(td, "right"), strict=True)
            for one, other in zip(first, second, strict=True)
        ]
        alone = pairs.count((False, True)), pairs.count((True, False))
        advantage, low, high, p = mcnemar(*alone, len(pairs))
        found[key] = PairedComparison(
            "loss difference", advantage, low, high, p, len(pairs), sum(alone)
        )
    return found


def masking(rows: Sequence[Row], cells: Iterable[Cell]) -> str:
    """What speaks for masked gradients, so that an attack says less than it seems to.

    AutoAttack's own checks, and images on which one of the ten attacks, which only ask for classes,
    comes closer than those that follow gradients.
    """
    wanted = set(cells)
    checked: dict[Group, set[str]] = {}
    for row in select(rows, kind="strong", attack="AutoAttack"):
        if isinstance(row.get("signs"), list) and group_of(row).cell in wanted:
            checked.setdefault(group_of(row), set()).update(row["signs"])  # type: ignore[arg-type]
    for group in checked:
        if _black_box_is_closer([row for row in rows if group_of_or_none(row) == group]):
            checked[group].add("a black-box attack comes closer than the white-box ones")
    if not checked:
        return "gradient masking not checked (AutoAttack was not run)"
    signs = [
        f"{group.cell.title} {ARRANGEMENT_TITLES[group.arrangement]}: {', '.join(sorted(found))}"
        for group, found in checked.items()
        if found
    ]
    if not signs:
        return f"no sign of gradient masking in {len(checked)} networks"
    return "signs of gradient masking: " + "; ".join(signs)


def closest(row: Row) -> bool:
    """Whether a row is of searches for the closest image, not of the authors'."""
    return row.get("distance", "l2") == "l2"


def group_of_or_none(row: Row) -> Group | None:
    return group_of(row) if "arrangement" in row and "data" in row else None


def _black_box_is_closer(rows: Sequence[Row]) -> bool:
    listed = [row for row in rows if isinstance(row.get("l2"), list) and closest(row)]
    white = {row["run"]: row["l2"] for row in listed if row["attack"] in _WHITE_BOX}
    for row in listed:
        pairs = zip(_norms(row["l2"]), _norms(white.get(row["run"])), strict=False)
        # an image that was wrong from the start has a norm below 0
        images = [(black, grey) for black, grey in pairs if min(black, grey) >= 0]
        closer = sum(black < (1 - _CLOSER) * grey for black, grey in images)
        if row["kind"] == "robustness" and closer > _OFTEN * len(images):
            return True
    return False


def _norms(listed: Any) -> list[float]:
    return [float("inf") if norm is None else norm for norm in listed or []]


def _pairs(
    rows: Sequence[Row], by: Callable[[Row], Hashable]
) -> dict[tuple[Cell, Any], tuple[list[Row], list[Row]]]:
    """Rows of BU and TD with the same run, by cell and whatever tells attacks apart."""
    runs: dict[tuple[Cell, Hashable], dict[tuple[object, str], Row]] = {}
    for row in select(rows, arrangement=PAIR):
        key = (group_of(row).cell, by(row))
        runs.setdefault(key, {})[row.get("run"), str(row["arrangement"])] = row
    found = {}
    for key, members in runs.items():
        both = [run for run, name in members if name == "bu" and (run, "td") in members]
        if both:
            found[key] = tuple([members[run, name] for run in both] for name in PAIR)
    return found  # type: ignore[return-value]


def _listed(rows: Sequence[Row], column: str) -> list[Any]:
    return [row[column] for row in rows]


def _strength(row: Row) -> Hashable:
    return str(row["attack"]), str(row["norm"]), row["epsilon"]
