"""What an attack is to the experiments, the tables and the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from foolbox.attacks.base import MinimizationAttack

Family = Literal["single pixel", "uncorrelated", "correlated", "blur", "contrast", "spatial"]


@dataclass(frozen=True, kw_only=True)
class NamedAttack:
    """An attack that searches a minimal perturbation of each image.

    Args:
        name: in rows of results; the paper's figures' own for its ten.
        make: from an effort to the foolbox attack; it minimises the L2 norm of the perturbation.
        random: whether repeating it may find something closer.
        title: in tables and figures; the name where empty.
        panel: its place in the paper's Fig. 6, from 1 to 10; None for an attack that it lacks.
        family: what the paper's claims (4.2) count it among; None for no claim.
        fixed_size: its L2 is what it is, so that only final losses are compared.
    """

    name: str
    make: Callable[[Any], MinimizationAttack]
    random: bool
    title: str = ""
    panel: int | None = None
    family: Family | None = None
    fixed_size: bool = False
