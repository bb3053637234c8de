"""How long attacks search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """For the paper's ten attacks; the defaults are those of foolbox 1 and 2, which it used.

    Args:
        steps: of a linear search over the strength.
        directions: uniform images drawn to find one of another class (blended noise).
        max_pixels: tried per image (single pixel).
        grid: values per axis and angle (spatial, shifts).
    """

    steps: int = 1000
    directions: int = 1000
    max_pixels: int = 1000
    grid: int = 10


@dataclass(frozen=True, kw_only=True)
class StrongEffort:
    """For the attacks that use gradients.

    Args:
        pgd_steps: of PGD, of either APGD and of FAB.
        restarts: of APGD on cross-entropy and of Square; standard AutoAttack has one.
        square_queries: per image and restart.
    """

    pgd_steps: int = 100
    restarts: int = 1
    square_queries: int = 5000
