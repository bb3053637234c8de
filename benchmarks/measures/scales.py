"""Perturbations fed to some levels of a top-down network only (paper, Fig. 5 and supplement)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.measures.robustness import check
from benchmarks.subjects.networks import Normalised

PAPER_NAMES = ("high", "medium", "low")

Levels = tuple[int, ...]


def level_count(model: Normalised) -> int:
    """How many pyramid levels a top-down network reads.

    Raises:
        BenchmarkError: the network is not a top-down network.
    """
    plan = getattr(model.network, "plan", None)
    if plan is None:
        raise BenchmarkError(
            "model", seen=f"a {type(model.network).__name__} without levels",
            expected="a network that `to_topdown` made",
            remedy="build it with another arrangement than bu",
        )  # fmt: skip
    return len(plan.levels)


def choices(count: int) -> list[Levels]:
    """Every single level and every pair that leaves one level clean; 0 is the finest.

    Example:
        >>> choices(3)
        [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
        >>> choices(2)
        [(0,), (1,)]
    """
    return [
        levels for size in (1, 2) if size < count for levels in combinations(range(count), size)
    ]


def name_of(levels: Levels, count: int) -> str:
    """The paper's name of a choice; by number where there aren't three levels.

    Example:
        >>> name_of((0, 2), 3), name_of((0, 1), 4)
        ('high-low', 'level0-level1')
    """
    names = PAPER_NAMES if count == len(PAPER_NAMES) else [f"level{n}" for n in range(count)]
    return "-".join(names[level] for level in levels)


@torch.no_grad()
def still_right(
    model: Normalised,
    clean: Tensor,
    perturbed: Tensor,
    labels: Tensor,
    levels: Iterable[int],
    *,
    batch: int = 128,
) -> Tensor:
    """Whether images are right before and after the perturbation of some levels, (N,).

    As in the paper an image that is wrong from the start stays wrong; one for which an attack found
    nothing is its own perturbed image.

    Args:
        model: a top-down network for images in [0, 1], in eval mode.
        clean, perturbed: (N, C, H, W) in [0, 1].
        labels: (N,).
        levels: which of the network's inputs get the perturbed image; 0 is the finest.
        batch: images at once.

    Raises:
        BenchmarkError: the network has no levels or not these, is in training mode, or values lie
            outside [0, 1].
    """
    chosen, count = set(levels), level_count(model)
    if not chosen <= set(range(count)):
        raise BenchmarkError(
            "levels", seen=str(sorted(chosen)), expected=f"numbers from 0 (finest) to {count - 1}",
            remedy="take them from benchmarks.measures.scales.choices",
        )  # fmt: skip
    check(model, clean)
    check(model, perturbed)
    right = []
    for before, after, label in zip(
        clean.split(batch), perturbed.split(batch), labels.split(batch), strict=True
    ):
        fed = [after if level in chosen else before for level in range(count)]
        untouched = model(before).argmax(1) == label
        right.append(untouched & (model.scales(fed).argmax(1) == label))
    return torch.cat(right)
