"""How the authors trained, per network and data set (paper, section 4, and their code)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.runs.jobs import Job, TrainConfig
from benchmarks.runs.profiles import Profile, Setting
from benchmarks.subjects.arrangements import Arrangement
from benchmarks.subjects.augment import Augmentation
from benchmarks.subjects.datasets import IMAGENETTE, ON_BLACK

Normalisation = Literal["none", "pixel-mean", "channel"]

LEARNING_RATE = 0.1
MOMENTUM = 0.9
BATCH = 128
VALIDATION_SHARE = 0.1
# the shares of the epochs after which the learning rate is divided by ten
DROPS = (0.5, 0.8)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What differs between networks and data sets.

    Args:
        epochs: passes through the training images.
        l2: factor of sum(w^2) in the loss, over the kernels.
        learning_rate: of the first half of the epochs.
        batch: images per step.
    """

    epochs: int
    l2: float = 0.0
    learning_rate: float = LEARNING_RATE
    batch: int = BATCH


def recipe(setting: Setting, arrangement: Arrangement) -> Recipe:
    """The authors' recipe; for models and data of one's own that of CIFAR-10.

    Example:
        >>> recipe(Setting("lenet-fc", "mnist"), "td").epochs
        30
    """
    if setting.data in ("digits", "mnist"):
        return Recipe(epochs=30 if (setting.model, arrangement) == ("lenet-fc", "td") else 50)
    if setting.data == "fashion-mnist":
        return Recipe(epochs=40 if setting.model == "lenet-fc" else 50)
    if setting.data in IMAGENETTE:
        if arrangement == "bu":
            return Recipe(epochs=50, l2=1e-3)
        return Recipe(epochs=50, l2=1e-3, learning_rate=0.05, batch=64)
    if setting.augmented:
        return Recipe(epochs=200, l2=1e-4)
    return Recipe(epochs=100, l2=5e-4)


def augmentation_of(data: str, augmented: bool) -> Augmentation:
    """How training images are changed; other images never are."""
    if not augmented:
        return Augmentation()
    if data in IMAGENETTE:
        return Augmentation(flip=True, random_crop=True, colour_jitter=0.1)
    if data in ON_BLACK:
        return Augmentation(shift=0.1)
    return Augmentation(shift=0.1, flip=True)


def normalisation_of(data: str) -> Normalisation:
    """What a network does to images in [0, 1] before its first layer."""
    if data in ON_BLACK:
        return "none"
    return "pixel-mean" if data == "cifar10" else "channel"


def training(setting: Setting, arrangement: Arrangement, run: int, profile: Profile) -> Job:
    """The job that trains one network once.

    Example:
        >>> from benchmarks.runs.profiles import PROFILES
        >>> training(Setting("nin", "cifar10"), "bu", 0, PROFILES["paper"]).config.weight_decay
        0.001
    """
    authors = recipe(setting, arrangement)

    def chosen(ours: float | None, theirs: float) -> float:
        return theirs if ours is None else ours

    config = TrainConfig(
        model=setting.model,
        arrangement=arrangement,
        data=setting.data,
        augmented=setting.augmented,
        run=run,
        epochs=int(chosen(profile.epochs, authors.epochs)),
        batch=int(chosen(profile.batch, authors.batch)),
        learning_rate=chosen(profile.learning_rate, authors.learning_rate),
        # the gradient of l2 * sum(w^2) is 2 * l2 * w; PyTorch adds weight_decay * w
        weight_decay=chosen(profile.weight_decay, 2 * authors.l2),
        train_limit=profile.train_limit,
        test_limit=profile.test_limit,
        precision=profile.precision,
        norm_momentum=profile.norm_momentum,
        channels_last=profile.channels_last,
        compile=profile.compile,
        seed=profile.seed,
    )
    return Job("train", config)


def trainings(profile: Profile) -> list[Job]:
    """Every training of a profile, the first run of every network before the second."""
    return [
        training(setting, arrangement, run, profile)
        for run in range(profile.runs)
        for setting in profile.settings
        if setting.runs is None or run < setting.runs
        for arrangement in profile.arrangements
        if arrangement in setting.arrangements
    ]
