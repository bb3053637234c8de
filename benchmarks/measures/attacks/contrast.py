"""Less contrast: foolbox's linear search, image by image."""

from __future__ import annotations

from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import LineSearch
from benchmarks.measures.attacks.search import Target


class ContrastReductionAttack(LineSearch):
    """Blends the image with grey.

    Example:
        >>> ContrastReductionAttack(steps=100).steps
        100
    """

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        clean = target.images[rows]
        return clean + (steps / self.steps)[:, None, None, None] * (0.5 - clean)


ATTACKS = (
    NamedAttack(
        name="ContrastReductionAttack", title="Contrast reduction", panel=8, family="contrast",
        make=lambda effort: ContrastReductionAttack(steps=effort.steps),
    ),
)  # fmt: skip
