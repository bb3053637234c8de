"""How much is run: `smoke` to see that all works, `cpu` and `core` for trends, `paper` for verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

import tyro

from benchmarks.errors import BenchmarkError
from benchmarks.runs.effort import Effort, StrongEffort
from benchmarks.runs.jobs import Precision, Scaling
from benchmarks.subjects.arrangements import ARRANGEMENTS, PAIR, Arrangement

ProfileName = Literal["smoke", "cpu", "core", "paper"]
# of exp2, by the kind of their rows
Part = Literal["robustness", "strong", "corruptions"]
PARTS: tuple[Part, ...] = get_args(Part)

# what rows say instead of a profile's name where a value of it was replaced
CUSTOM = "custom"


def or_else(meaning: str, metavar: str) -> Any:
    """How the help shows an option that may be left out.

    Args:
        meaning: of None, in place of a default.
        metavar: of a value.
    """

    def hint(default: str) -> str:
        return f"(default: {meaning if default == 'None' else default})"

    return tyro.conf.arg(help_behavior_hint=hint, metavar=metavar)


@dataclass(frozen=True)
class Setting:
    """A bottom-up model and the images that it is trained on.

    Args:
        model: a name for `benchmarks.subjects.networks.build`.
        data: a name for `benchmarks.subjects.datasets.load`.
        augmented: train on changed images.
        arrangements: which of the profile's are trained.
        runs: repetitions at most, where the profile has more; the profile's where None.
    """

    model: str
    data: str
    augmented: bool = False
    arrangements: tuple[Arrangement, ...] = field(default=ARRANGEMENTS, repr=False)
    runs: int | None = field(default=None, repr=False)


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
        parts: of exp2: the ten attacks (robustness), the strong ones, the corruptions.
        epochs: passes through the training images.
        batch: images per step.
        learning_rate: of the first half of the epochs.
        weight_decay: as PyTorch counts it, on kernels only.
        norm_momentum: of the batch normalisations' running averages.
        train_limit: how many training images; all where left out.
        test_limit: how many test images; all where left out.
        precision: of a training's arithmetic on a GPU.
        channels_last: order of the maps in memory.
        compile: train through torch.compile.
        seed: of everything.
        attack_images: test images per network of the ten attacks and of the levels' perturbations.
        attack_repeats: of which the worst counts.
        attack_distance: l2: the closest image that each attack finds; linf: as the authors ran them,
            with the L-infinity distance of foolbox 2.2.1, to compare with their figures.
        strong_images: test images per network of the gradient attacks.
        corruption_images: test images per network and corruption; all where left out.
        localisation_images: test images per pair of networks; all where left out.
        pictures: heatmaps drawn per network.
        scaling: how heatmaps are brought to [0, 1], a row each; the first one, the authors', decides
            and is drawn.
        masks: the explained objects as a data set laid out like the images, for example
            imagefolder:/path.
        effort, strong_effort: how long attacks search.
    """

    name: tyro.conf.Suppress[ProfileName]
    settings: tyro.conf.Suppress[tuple[Setting, ...]]
    explained: tyro.conf.Suppress[tuple[Setting, ...]]
    arrangements: tuple[Arrangement, ...] = ARRANGEMENTS
    runs: int = 4
    attacked_runs: int = 1
    parts: tuple[Part, ...] = PARTS
    epochs: Annotated[int | None, or_else("the authors'", "INT")] = None
    batch: Annotated[int | None, or_else("the authors'", "INT")] = None
    learning_rate: Annotated[float | None, or_else("the authors'", "FLOAT")] = None
    weight_decay: Annotated[float | None, or_else("the authors'", "FLOAT")] = None
    norm_momentum: Annotated[float | None, or_else("the network's own", "FLOAT")] = None
    train_limit: Annotated[int | None, or_else("all", "INT")] = None
    test_limit: Annotated[int | None, or_else("all", "INT")] = None
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0
    attack_images: int = 1000
    attack_repeats: int = 3
    attack_distance: Literal["l2", "linf"] = "l2"
    strong_images: int = 1000
    corruption_images: Annotated[int | None, or_else("all", "INT")] = None
    localisation_images: Annotated[int | None, or_else("all", "INT")] = None
    pictures: int = 6
    scaling: tuple[Scaling, ...] = ("centred", "min-max")
    masks: Annotated[str | None, or_else("objects stand on black", "DATA")] = None
    effort: tyro.conf.Suppress[Effort] = field(default_factory=Effort)
    strong_effort: tyro.conf.Suppress[StrongEffort] = field(default_factory=StrongEffort)

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                option = f"--{name.replace('_', '-')}"
                raise BenchmarkError(
                    option, seen=str(value), expected="1 or more",
                    remedy=f"give {option} a number from 1 on, or leave it out",
                )  # fmt: skip


_AT_LEAST_ONE = (
    "runs", "attacked_runs", "epochs", "batch", "train_limit", "test_limit", "attack_images",
    "attack_repeats", "strong_images", "corruption_images", "localisation_images", "pictures",
)  # fmt: skip


_GREY = ("mnist", "fashion-mnist")
_SMALL = tuple(Setting(model, data) for model in ("lenet-fc", "nin-light") for data in _GREY)
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
    "core": Profile(
        name="core",
        settings=(
            *(Setting("lenet-fc", data) for data in _GREY),
            *(Setting("nin-light", data, arrangements=PAIR) for data in _GREY),
            Setting("resnet32", "cifar10", arrangements=PAIR, runs=2),
        ),
        explained=_SMALL,
        epochs=10,
        attack_images=200,
        strong_images=200,
        channels_last=True,
    ),
    "paper": Profile(
        name="paper",
        settings=(*_SMALL, *_CIFAR),
        explained=(
            Setting("nin-light", "mnist"),
            Setting("nin-light", "fashion-mnist"),
            Setting("resnet18-imagenette", "imagenette", augmented=True),
        ),
        channels_last=True,
    ),
}


def is_changed(profile: Profile) -> bool:
    """Does a value differ from the named profile's that a result depends on?

    How many networks are trained, which, and what is measured, changes none of the results.

    Example:
        >>> is_changed(replace(PROFILES["paper"], runs=1)), is_changed(replace(PROFILES["cpu"], epochs=2))
        (False, True)
    """
    named = PROFILES[profile.name]
    chosen = ("settings", "explained", "arrangements", "runs", "attacked_runs", "parts")
    return replace(profile, **{name: getattr(named, name) for name in chosen}) != named


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
    every: dict[str, Any] = {"arrangements": ARRANGEMENTS, "runs": None}
    changed = dict.fromkeys(replace(setting, **wanted, **every) for setting in settings)
    return tuple(kept or changed)
