"""The attacks of Exp. 2: each searches a minimal perturbation of each image.

Every module here that has `ATTACKS` adds its own; they run in exp2 and appear in tables and figures.
foolbox 3 has six of the paper's ten, and tries each candidate on the whole batch; those here ask a
network only what can still change the result (`ordered`), and find the same.
`foolbox_attack.FoolboxAttack` runs any attack of foolbox as it is.
"""

from __future__ import annotations

import sys

from benchmarks.measures.attacks.named import Family, NamedAttack
from benchmarks.registry import offered

__all__ = ["ATTACKS", "NamedAttack", "attack_title", "of_families"]

# by name: those of the paper's Fig. 6 in its order, then all others
ATTACKS: dict[str, NamedAttack] = {
    attack.name: attack
    for attack in sorted(
        (attack for attacks in offered(sys.modules[__name__], "ATTACKS") for attack in attacks),
        key=lambda attack: (attack.panel is None, attack.panel, attack.name),
    )
}


def attack_title(name: str) -> str:
    """As tables and figures write it; a name that no attack has stays as it is."""
    return (name in ATTACKS and ATTACKS[name].title) or name


def of_families(*families: Family) -> tuple[str, ...]:
    """The names of the attacks that the paper's claims count among these.

    Example:
        >>> of_families("spatial")
        ('SpatialAttack', 'ShiftsAttack')
    """
    return tuple(name for name, attack in ATTACKS.items() if attack.family in families)
