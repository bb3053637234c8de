"""The paper's ten attacks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foolbox.attacks import (
    GaussianBlurAttack,
    LinearSearchBlendedUniformNoiseAttack,
    LinearSearchContrastReductionAttack,
    SaltAndPepperNoiseAttack,
)
from foolbox.attacks.base import MinimizationAttack
from foolbox.distances import l2

from benchmarks.measures.attacks.additive_noise import (
    AdditiveGaussianNoiseAttack,
    AdditiveUniformNoiseAttack,
)
from benchmarks.measures.attacks.pointwise import StartedPointwiseAttack
from benchmarks.measures.attacks.single_pixel import SinglePixelAttack
from benchmarks.measures.attacks.spatial import SpatialAttack
from benchmarks.measures.effort import Effort


@dataclass(frozen=True)
class NamedAttack:
    """One attack of the paper.

    Args:
        name: as in the paper's figures.
        make: builds the foolbox attack; it minimises the L2 norm of the perturbation.
        random: whether repeating it may find something closer.
    """

    name: str
    make: Callable[[Effort], MinimizationAttack]
    random: bool


ATTACKS: dict[str, NamedAttack] = {
    attack.name: attack
    for attack in (
        NamedAttack(
            "SinglePixelAttack", lambda e: SinglePixelAttack(max_pixels=e.max_pixels), random=True
        ),
        NamedAttack(
            "Salt&PepperNoiseAttack", lambda e: SaltAndPepperNoiseAttack(steps=e.steps), random=True
        ),
        NamedAttack(
            "PointwiseAttack", lambda e: StartedPointwiseAttack(steps=e.steps), random=True
        ),
        NamedAttack(
            "AdditiveGaussianNoiseAttack",
            lambda e: AdditiveGaussianNoiseAttack(steps=e.steps),
            random=True,
        ),
        NamedAttack(
            "AdditiveUniformNoiseAttack",
            lambda e: AdditiveUniformNoiseAttack(steps=e.steps),
            random=True,
        ),
        NamedAttack(
            "BlendedUniformNoiseAttack",
            lambda e: LinearSearchBlendedUniformNoiseAttack(
                distance=l2, directions=e.directions, steps=e.steps
            ),
            random=True,
        ),
        NamedAttack(
            "GaussianBlurAttack",
            lambda e: GaussianBlurAttack(distance=l2, steps=e.steps),
            random=False,
        ),
        NamedAttack(
            "ContrastReductionAttack",
            lambda e: LinearSearchContrastReductionAttack(distance=l2, steps=e.steps),
            random=False,
        ),
        NamedAttack("SpatialAttack", lambda e: SpatialAttack(grid=e.grid), random=False),
        NamedAttack(
            "ShiftsAttack", lambda e: SpatialAttack(max_rotation=0, grid=e.grid), random=False
        ),
    )
}
