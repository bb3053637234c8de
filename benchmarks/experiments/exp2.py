"""Exp. 2: robustness (paper, Fig. 6), and what weak attacks may flatter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.experiments.experiment import Experiment
from benchmarks.files import save_file
from benchmarks.findings.curve_figures import (
    corruptions_drawing,
    robustness_drawing,
    strong_drawing,
)
from benchmarks.findings.section import Section
from benchmarks.findings.tables import corruption_table, robustness_table, strong_table
from benchmarks.measures.attacks import ATTACKS, NamedAttack
from benchmarks.measures.attacks.named import Distance
from benchmarks.measures.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from benchmarks.measures.robustness import Perturbations, minimal_perturbations, predict
from benchmarks.measures.strong_attacks import FIXED, MINIMAL, NORMS, Kept, Norm, still_right
from benchmarks.runs.effort import Effort, StrongEffort
from benchmarks.runs.interrupts import held_back
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile, Setting
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import BudgetSpent, Workspace
from benchmarks.subjects.arrangements import PAIR, Arrangement
from benchmarks.subjects.datasets import ON_BLACK, as_floats, balanced_order

PERTURBED = "perturbed.pt"

# Small, because what is interrupted within a batch starts this batch again.
_STRONG_BATCH = 32
# The paper's supplement attacks all arrangements of this network.
_ALL_ATTACKED = "resnet32"
_EPSILONS: dict[tuple[bool, Norm], tuple[float, ...]] = {
    (True, "linf"): (0.05, 0.1, 0.3),
    (True, "l2"): (0.5, 1.0, 2.0),
    (False, "linf"): (1 / 255, 2 / 255, 8 / 255),
    (False, "l2"): (0.1, 0.25, 0.5),
}


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """What the minimal perturbations of one network under one attack depend on.

    Args:
        attack: a name of `benchmarks.measures.attacks.ATTACKS`.
        images: how many test images, in a class-balanced shuffle.
        repeats: of the attack; the worst counts.
        distance: `linf`: as the authors ran it.
        effort: how long it searches.
    """

    attack: str
    images: int
    repeats: int = 3
    distance: Distance = "l2"
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, kw_only=True)
class StrongConfig:
    """What the results of one strong attack depend on.

    Args:
        attack: FGSM, PGD, AutoAttack, DeepFool or FAB.
        norm: of the perturbation.
        epsilons: its bounds, for images in [0, 1]; none for the attacks that minimise it.
        images: how many test images, in a class-balanced shuffle.
        effort: how long it searches.
    """

    attack: str
    norm: Norm
    epsilons: tuple[float, ...]
    images: int
    effort: StrongEffort = field(default_factory=StrongEffort)


@dataclass(frozen=True, kw_only=True)
class CorruptionConfig:
    """What the accuracies under one corruption depend on.

    Args:
        corruption: a name of `benchmarks.measures.corruptions.CORRUPTIONS`.
        images: how many test images, in a class-balanced shuffle; all where None.
    """

    corruption: str
    images: int | None = None


def jobs(profile: Profile) -> list[Job]:
    """The ten attacks, the strong ones and the corruptions, network by network."""
    return [
        job
        for run in range(min(profile.attacked_runs, profile.runs))
        for setting in profile.settings
        for arrangement in attacked(setting, profile)
        for job in _jobs_of(training(setting, arrangement, run, profile), profile)
        if job.kind in profile.parts
    ]


def attacked(setting: Setting, profile: Profile) -> list[Arrangement]:
    """The networks of a setting that are compared: BU and TD where these are among the profile's."""
    both: list[Arrangement] = [name for name in profile.arrangements if name in PAIR]
    all_of_them = setting.model == _ALL_ATTACKED or not both
    return list(profile.arrangements) if all_of_them else both


def robustness_job(trained: Job, attack: str, profile: Profile) -> Job:
    """The job that attacks a trained network."""
    config = RobustnessConfig(
        attack=attack,
        images=profile.attack_images,
        repeats=profile.attack_repeats,
        distance=profile.attack_distance,
        effort=profile.effort,
    )
    first = ATTACKS[attack].starts_from
    started = (robustness_job(trained, first, profile),) if first else ()
    return Job("robustness", config, needs=(trained, *started))


def _jobs_of(trained: Job, profile: Profile) -> Iterator[Job]:
    for attack in ATTACKS:
        yield robustness_job(trained, attack, profile)
    effort, images = profile.strong_effort, profile.strong_images
    for norm in NORMS:
        epsilons = _EPSILONS[trained.config.data in ON_BLACK, norm]
        for strong in FIXED:
            config = StrongConfig(
                attack=strong, norm=norm, epsilons=epsilons, images=images, effort=effort
            )
            yield Job("strong", config, needs=(trained,))
    for minimal in MINIMAL:
        config = StrongConfig(attack=minimal, norm="l2", epsilons=(), images=images, effort=effort)
        yield Job("strong", config, needs=(trained,))
    for corruption in CORRUPTIONS:
        chosen = CorruptionConfig(corruption=corruption, images=profile.corruption_images)
        yield Job("corruptions", chosen, needs=(trained,))


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and the test images that it is tried on.

    Args:
        network: takes images in [0, 1]; in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        common: what every row about it says.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    common: Row


def subject(trained: Job, images: int | None, workspace: Workspace) -> Subject:
    """The network of a training that is done, and its first test images."""
    data = workspace.data(trained.config)
    chosen = balanced_order(data.test_labels, seed=trained.config.seed)[:images]
    chosen = chosen.to(workspace.device)
    network = workspace.network(trained)
    floats, labels = as_floats(data.test_images[chosen]), data.test_labels[chosen]
    right = predict(network, floats) == labels
    common: Row = {"images": len(labels), "clean_accuracy": share(right)}
    return Subject(network, floats, labels, common)


def share(right: Tensor) -> float:
    """Of the true values."""
    return right.float().mean().item()


def attack_network(job: Job, workspace: Workspace) -> Iterator[Row]:
    """One row: the minimal L2 per image, -1 where it was wrong from the start, None where nothing
    was found. The images are kept, for exp2-scales and for attacks that start from them.
    """
    config: RobustnessConfig = job.config
    tried = subject(job.needs[0], config.images, workspace)
    options: dict[str, Any] = {"repeats": config.repeats, "distance": config.distance}
    if len(job.needs) > 1:
        options["starts"] = perturbed_images(job.needs[1], workspace)
    found = _searched(ATTACKS[config.attack], tried, job, workspace, **options)
    save_file(workspace.file(job, PERTURBED), found.images.cpu())
    measured: Row = {"l2": found.listed(), "repeats": config.repeats}
    yield {"attack": config.attack, "distance": config.distance, **measured, **tried.common}


def perturbed_images(attacked: Job, workspace: Workspace) -> Tensor:
    """What an attack that is done found (N, C, H, W)."""
    file = workspace.file(attacked, PERTURBED)
    found: Tensor = torch.load(file, map_location=workspace.device, weights_only=True)
    return found


def attack_strongly(job: Job, workspace: Workspace) -> Iterator[Row]:
    """A row per size of the perturbation, or one with the minimal L2 per image."""
    config: StrongConfig = job.config
    tried = subject(job.needs[0], config.images, workspace)
    common: Row = {"attack": config.attack, "norm": config.norm, **tried.common}
    if config.attack in MINIMAL:
        found = _searched(MINIMAL[config.attack], tried, job, workspace)
        never = share(found.l2.isinf())
        yield {**common, "l2": found.listed(), "robust_accuracy": never}
        return
    kept = _kept_batches(workspace.checkpoint(job), len(config.epsilons))
    for epsilon, part in zip(config.epsilons, kept, strict=True):
        try:
            outcome = still_right(
                tried.network, tried.images, tried.labels, attack=config.attack, norm=config.norm,
                epsilon=epsilon, effort=config.effort, batch=_STRONG_BATCH,
                seed=job.needs[0].config.seed, kept=part, pause=workspace.pause_if_due,
            )  # fmt: skip
        except (KeyboardInterrupt, BudgetSpent):
            with held_back():
                save_file(workspace.checkpoint(job), [asdict(done) for done in kept])
            raise
        measured: Row = {"epsilon": epsilon, "robust_accuracy": share(outcome.right)}
        # per image, to be compared in pairs
        listed: Row = {"right": outcome.right.int().tolist(), "signs": list(outcome.signs)}
        yield {**common, **measured, **listed}


def _kept_batches(checkpoint: Path, count: int) -> list[Kept]:
    """What is done for each size of the perturbation."""
    if not checkpoint.exists():
        return [Kept() for _ in range(count)]
    return [Kept(**part) for part in torch.load(checkpoint, weights_only=True)]


def _searched(
    attack: NamedAttack, tried: Subject, job: Job, workspace: Workspace, **options: Any
) -> Perturbations:
    return minimal_perturbations(
        tried.network, tried.images, tried.labels, attack, effort=job.config.effort,
        seed=job.needs[0].config.seed, quiet=workspace.place.quiet, pause=workspace.pause_if_due,
        checkpoint=workspace.checkpoint(job), **options,
    )  # fmt: skip


def corrupt_images(job: Job, workspace: Workspace) -> Iterator[Row]:
    """A row per severity."""
    config: CorruptionConfig = job.config
    tried = subject(job.needs[0], config.images, workspace)
    for severity in SEVERITIES:
        workspace.pause_if_due()
        seed = job.needs[0].config.seed
        images = corrupt(tried.images, config.corruption, severity, seed=seed)
        right = predict(tried.network, images) == tried.labels
        measured: Row = {"severity": severity, "accuracy": share(right)}
        yield {"corruption": config.corruption, **measured, **tried.common}


EXPERIMENT = Experiment(
    name="exp2",
    summary="Robustness against ten attacks (paper, Fig. 6), strong attacks and corruptions.",
    source="4.2",
    jobs=jobs,
    handlers={
        "robustness": attack_network,
        "strong": attack_strongly,
        "corruptions": corrupt_images,
    },
    sections=(
        Section(
            kind="robustness", title="Exp. 2: robustness (Fig. 6)",
            table=robustness_table, drawings=(robustness_drawing,), covered="Exp. 2, ten attacks",
        ),
        Section(
            kind="strong", title="Beyond the paper: strong attacks",
            table=strong_table, drawings=(strong_drawing,), covered="strong attacks",
        ),
        Section(
            kind="corruptions", title="Beyond the paper: common corruptions",
            table=corruption_table, drawings=(corruptions_drawing,), covered="corruptions",
        ),
    ),
)  # fmt: skip
