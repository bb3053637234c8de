"""The paper's ten attacks as foolbox 3 attacks that search a minimal perturbation of each image.

`ATTACKS` maps the paper's names to the attacks. foolbox 3 has six of them; those that it lacks
(single pixel, additive noise of growing strength, rotations with shifts of foolbox 1) are here, one
file each.
"""

from __future__ import annotations

from benchmarks.measures.attacks.table import ATTACKS, NamedAttack

__all__ = ["ATTACKS", "NamedAttack"]
