"""Those of the paper's attacks that foolbox 3 has as they are."""

from __future__ import annotations

from foolbox.attacks import (
    GaussianBlurAttack,
    LinearSearchBlendedUniformNoiseAttack,
    LinearSearchContrastReductionAttack,
    SaltAndPepperNoiseAttack,
)
from foolbox.distances import l2

from benchmarks.measures.attacks.named import NamedAttack

ATTACKS = (
    NamedAttack(
        name="Salt&PepperNoiseAttack", title="Salt & pepper noise", panel=2, family="uncorrelated",
        random=True, make=lambda effort: SaltAndPepperNoiseAttack(steps=effort.steps),
    ),
    NamedAttack(
        name="BlendedUniformNoiseAttack", title="Blended uniform noise", panel=6, family="uncorrelated",
        random=True,
        make=lambda effort: LinearSearchBlendedUniformNoiseAttack(
            distance=l2, directions=effort.directions, steps=effort.steps
        ),
    ),
    NamedAttack(
        name="GaussianBlurAttack", title="Gaussian blur", panel=7, family="blur",
        random=False, make=lambda effort: GaussianBlurAttack(distance=l2, steps=effort.steps),
    ),
    NamedAttack(
        name="ContrastReductionAttack", title="Contrast reduction", panel=8, family="contrast",
        random=False,
        make=lambda effort: LinearSearchContrastReductionAttack(distance=l2, steps=effort.steps),
    ),
)  # fmt: skip
