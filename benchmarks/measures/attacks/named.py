"""What an attack is to the experiments, the tables and the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measures.attacks.search import Search

Family = Literal["single pixel", "uncorrelated", "correlated", "blur", "contrast", "spatial"]
# l2: the closest that is found; linf: as the authors ran them, see `NamedAttack.authors`
Distance = Literal["l2", "linf"]


@dataclass(frozen=True, kw_only=True)
class NamedAttack:
    """An attack that searches a minimal perturbation of each image.

    Args:
        name: in rows of results; the paper's figures' own for its ten.
        make: from an effort to the search; it minimises the L2 norm of the perturbation.
        authors: from an effort to the search as the authors ran it, with the L-infinity distance
            that foolbox 2.2.1 has by default; None where that makes no difference.
        starts_from: another attack whose found images this one starts from; None where it starts
            from the clean ones.
        title: in tables and figures; the name where empty.
        panel: its place in the paper's Fig. 6, from 1 to 10; None for an attack that it lacks.
        family: what the paper's claims (4.2) count it among; None for no claim.
        fixed_size: its L2 is what it is, so that only final losses are compared.
    """

    name: str
    make: Callable[[Any], Search]
    authors: Callable[[Any], Search] | None = None
    starts_from: str | None = None
    title: str = ""
    panel: int | None = None
    family: Family | None = None
    fixed_size: bool = False

    def search(self, effort: Any, distance: Distance = "l2") -> Search:
        """What is run."""
        make = self.authors if distance == "linf" and self.authors else self.make
        return make(effort)
