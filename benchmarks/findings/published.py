"""The authors' own figures.

`published_robustness.json` was read off the plots in the authors' published notebook; it says how,
and how exactly. The accuracies of Fig. 4 and the precisions of Fig. 9 were printed nowhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.findings.aggregate import Cell, Group
from benchmarks.subjects.datasets import data_title
from benchmarks.subjects.networks import model_title

# The paper's cells, in its order.
PAPER_CELLS = (
    Cell("lenet-fc", "mnist", False), Cell("nin-light", "mnist", False),
    Cell("lenet-fc", "fashion-mnist", False), Cell("nin-light", "fashion-mnist", False),
    Cell("nin", "cifar10", False), Cell("resnet32", "cifar10", False),
    Cell("nin", "cifar10", True), Cell("resnet32", "cifar10", True),
)  # fmt: skip


@dataclass(frozen=True)
class PublishedCurve:
    """One curve of Fig. 6.

    Args:
        l2_at_loss: from a loss of test accuracy in percentage points to the L2 norm at which the
            curve reaches it, None where it never does.
        plateau: the loss at the curve's right end, in percentage points.
        max_l2: where the curve ends.
    """

    l2_at_loss: dict[int, float | None]
    plateau: float
    max_l2: float


def published_curve(group: Group, attack: str) -> PublishedCurve | None:
    """A network's curve in Fig. 6; None where the authors showed none."""
    suffix = {"bu": "", "td": "_TD"}.get(group.arrangement)
    curves = _published()["curves"].get(data_title(group.data, group.augmented), {})
    if suffix is None:
        return None
    found = curves.get(attack, {}).get(model_title(group.model) + suffix)
    if found is None:
        return None
    reached = {int(level): l2 for level, l2 in found["l2_at_loss"].items()}
    return PublishedCurve(reached, found["plateau"], found["max_l2"])


def published_scales(cell: Cell, attack: str) -> dict[str, float]:
    """Fig. 5 and its supplement: from perturbed levels to test accuracy, a share; may be empty.

    The authors used NIN-light for MNIST and Fashion-MNIST and NIN for augmented CIFAR10.
    """
    models = {"mnist": "nin-light", "fashion-mnist": "nin-light", "cifar10": "nin"}
    if models.get(cell.data) != cell.model:
        return {}
    data = data_title(cell.data, cell.augmented)
    figures = (_published()[part].get(data, {}) for part in ("single_scale", "two_scale"))
    return {
        levels: accuracy / 100
        for figure in figures
        for levels, accuracy in figure.get(attack, {}).items()
    }


@cache
def _published() -> dict[str, Any]:
    path = Path(__file__).with_name("published_robustness.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
