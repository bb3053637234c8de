"""Gaussian blur: foolbox's linear search, image by image."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.measures.attacks.named import NamedAttack
from benchmarks.measures.attacks.ordered import LineSearch
from benchmarks.measures.attacks.search import Target


class GaussianBlurAttack(LineSearch):
    """Blurs with a deviation that grows up to the image's longer side."""

    def candidates(self, target: Target, rows: Tensor, steps: Tensor) -> Tensor:
        clean = target.images[rows].cpu().numpy()
        widest = max(clean.shape[2:])
        blurred = np.empty_like(clean)
        for step in steps.unique().tolist():
            sigma = step / self.steps * widest
            chosen = (steps == step).cpu().numpy()
            blurred[chosen] = gaussian_filter(clean[chosen], (0, 0, sigma, sigma))
        return torch.from_numpy(blurred).to(target.images).clamp(0, 1)


ATTACKS = (
    NamedAttack(
        name="GaussianBlurAttack", title="Gaussian blur", panel=7, family="blur",
        make=lambda effort: GaussianBlurAttack(steps=effort.steps),
    ),
)  # fmt: skip
