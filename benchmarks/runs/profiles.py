"""How much is run: `smoke` to see that all works, `cpu` to see the trends, `paper` for the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tyro

from benchmarks.runs.effort import Effort, StrongEffort
from benchmarks.runs.jobs import Precision
from benchmarks.subjects.arrangements import ARRANGEMENTS, Arrangement

ProfileName = Literal["smoke", "cpu", "paper"]


@dataclass(frozen=True)
class Setting:
    """A bottom-up model and the images that it is trained on.

    Args:
        model: a name for `benchmarks.subjects.networks.build`.
        data: a name for `benchmarks.subjects.datasets.load`.
        augmented: train on changed images.
    """

    model: str
    data: str
    augmented: bool = False


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The size of every experiment. Where a value of the recipe is None here, the authors' holds.

    The command line has an option for every field but the first three and the efforts.

    Args:
        name: what the rows' column `profile` says.
        settings: the pairs of model and data that are compared and attacked.
        explained: those whose heatmaps are compared (paper, 4.3).
        arrangements: which networks of every setting; bu is the model itself.
        runs: repetitions of every training.
        attacked_runs: how many of these are attacked.
        epochs: passes through the training images.
        batch: images per step.
        learning_rate: of the first half of the epochs.
        weight_decay: as PyTorch counts it, on kernels only.
        norm_momentum: of the batch normalisations' running averages.
        train_limit: how many training images; all where None.
        test_limit: how many test images; all where None.
        precision: of a training's arithmetic on a GPU.
        channels_last: order of the maps in memory.
        compile: train through torch.compile.
        seed: of everything.
        attack_images: test images per network of the ten attacks and of the levels' perturbations.
        attack_repeats: of which the worst counts.
        attack_distance: l2: the closest image that each attack finds; linf: as the authors ran them,
            with the L-infinity distance of foolbox 2.2.1, to compare with their figures.
        strong_images: test images per network of the gradient attacks.
        corruption_images: test images per network and corruption; all where None.
        localisation_images: test images per pair of networks; all where None.
        pictures: heatmaps drawn per network.
        masks: the explained objects as a data set laid out like the images, for example
            imagefolder:/path; None where they stand on black.
        effort, strong_effort: how long attacks search.
    """

    name: tyro.conf.Suppress[ProfileName]
    settings: tyro.conf.Suppress[tuple[Setting, ...]]
    explained: tyro.conf.Suppress[tuple[Setting, ...]]
    arrangements: tuple[Arrangement, ...] = ARRANGEMENTS
    runs: int = 4
    attacked_runs: int = 1
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    norm_momentum: float | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0
    attack_images: int = 1000
    attack_repeats: int = 3
    attack_distance: Literal["l2", "linf"] = "l2"
    strong_images: int = 1000
    corruption_images: int | None = None
    localisation_images: int | None = None
    pictures: int = 6
    masks: str | None = None
    effort: tyro.conf.Suppress[Effort] = field(default_factory=Effort)
    strong_effort: tyro.conf.Suppress[StrongEffort] = field(default_factory=StrongEffort)


_SMALL = tuple(
    Setting(model, data)
    for model in ("lenet-fc", "nin-light")
    for data in ("mnist", "fashion-mnist")
)
_CIFAR = tuple(
    Setting(model, "cifar10", augmented)
    for model in ("nin", "resnet32")
    for augmented in (False, True)
)

# Short trainings take too few steps for the authors' running averages, which forget in 100.
_QUICK_MOMENTUM = 0.1

PROFILES: dict[ProfileName, Profile] = {
    "smoke": Profile(
        name="smoke",
        settings=(Setting("lenet-fc", "digits"),),
        explained=(Setting("lenet-fc", "digits"),),
        runs=1,
        epochs=4,
        batch=32,
        train_limit=800,
        norm_momentum=_QUICK_MOMENTUM,
        attack_images=8,
        attack_repeats=1,
        strong_images=8,
        corruption_images=32,
        localisation_images=32,
        pictures=2,
        effort=Effort(steps=20, directions=20, max_pixels=20, grid=3),
        strong_effort=StrongEffort(pgd_steps=5, restarts=1, square_queries=20),
    ),
    "cpu": Profile(
        name="cpu",
        settings=_SMALL,
        explained=_SMALL,
        runs=2,
        epochs=6,
        batch=32,
        norm_momentum=_QUICK_MOMENTUM,
        train_limit=3000,
        test_limit=2000,
        attack_images=20,
        attack_repeats=3,
        strong_images=8,
        corruption_images=200,
        localisation_images=500,
        pictures=4,
        effort=Effort(steps=200, directions=200, max_pixels=200, grid=6),
        strong_effort=StrongEffort(pgd_steps=20, restarts=1, square_queries=200),
    ),
    "paper": Profile(
        name="paper",
        settings=(*_SMALL, *_CIFAR),
        explained=(
            Setting("nin-light", "mnist"),
            Setting("nin-light", "fashion-mnist"),
            Setting("resnet18-imagenette", "imagenette", augmented=True),
        ),
        precision="bf16",
        channels_last=True,
        compile=True,
    ),
}


def narrowed(
    profile: Profile,
    *,
    model: str | None = None,
    data: str | None = None,
    augmented: bool | None = None,
    **overrides: Any,
) -> Profile:
    """A profile for the user's own model, data and sizes.

    Of the settings those stay that agree with what is given; where none does, all are changed to it.

    Args:
        profile: where to start.
        model, data, augmented: as in `Setting`; None leaves them open.
        overrides: other fields of `Profile`; None leaves the profile's own.

    Example:
        >>> narrowed(PROFILES["smoke"], model="timm:resnet26", epochs=2).settings
        (Setting(model='timm:resnet26', data='digits', augmented=False),)
    """
    wanted: dict[str, Any] = {"model": model, "data": data, "augmented": augmented}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(
        profile,
        settings=_agreeing(profile.settings, wanted),
        explained=_agreeing(profile.explained, wanted),
        **given,
    )


def _agreeing(settings: tuple[Setting, ...], wanted: dict[str, Any]) -> tuple[Setting, ...]:
    kept = [s for s in settings if all(getattr(s, name) == v for name, v in wanted.items())]
    changed = dict.fromkeys(replace(setting, **wanted) for setting in settings)
    return tuple(kept or changed)
