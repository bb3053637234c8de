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
        name="Salt&PepperNoiseAttack",
        title="Salt & pepper noise",
        make=lambda effort: SaltAndPepperNoiseAttack(steps=effort.steps),
        random=True,
        panel=2,
        family="uncorrelated",
    ),
    NamedAttack(
        name="BlendedUniformNoiseAttack",
        title="Blended uniform noise",
        make=lambda effort: LinearSearchBlendedUniformNoiseAttack(
            distance=l2, directions=effort.directions, steps=effort.steps
        ),
        random=True,
        panel=6,
        family="uncorrelated",
    ),
    NamedAttack(
        name="GaussianBlurAttack",
        title="Gaussian blur",
        make=lambda effort: GaussianBlurAttack(distance=l2, steps=effort.steps),
        random=False,
        panel=7,
        family="blur",
    ),
    NamedAttack(
        name="ContrastReductionAttack",
        title="Contrast reduction",
        make=lambda effort: LinearSearchContrastReductionAttack(distance=l2, steps=effort.steps),
        random=False,
        panel=8,
        family="contrast",
    ),
)
