"""Exp. 2 by level: the perturbations fed to one or two levels of the TD input (paper, Fig. 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.experiments.exp2 import perturbed_images, robustness_job, share, subject
from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.figures import one_level_drawing, two_levels_drawing
from benchmarks.findings.section import Section
from benchmarks.findings.tables import levels_table
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.scales import choices, level_count, name_of, still_right
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects.networks import Normalised


@dataclass(frozen=True, kw_only=True)
class ScalesConfig:
    """What the accuracies depend on, beside the perturbations.

    Args:
        attack: which made the perturbations.
    """

    attack: str


def jobs(profile: Profile) -> list[Job]:
    """Per TD network and attack; the perturbations are exp2's."""
    return [
        _job(training(setting, "td", run, profile), attack, profile)
        for run in range(min(profile.attacked_runs, profile.runs))
        for setting in profile.settings
        for attack in ATTACKS
    ]


def _job(trained: Job, attack: str, profile: Profile) -> Job:
    attacked = robustness_job(trained, attack, profile)
    return Job("scales", ScalesConfig(attack=attack), needs=(trained, attacked))


def feed_levels(job: Job, workspace: Workspace) -> Iterator[Row]:
    """A row per choice of levels."""
    trained, attacked = job.needs
    tried = subject(trained, attacked.config.images, workspace)
    network = tried.network
    assert isinstance(network, Normalised)
    perturbed = perturbed_images(attacked, workspace)
    count = level_count(network)
    for levels in choices(count):
        workspace.pause_if_due()
        right = still_right(network, tried.images, perturbed, tried.labels, levels)
        measured: Row = {"perturbed": name_of(levels, count), "accuracy": share(right)}
        yield {"attack": job.config.attack, **measured, **tried.common}


EXPERIMENT = Experiment(
    name="exp2-scales",
    summary="Perturbations fed to single levels of the top-down input (paper, Fig. 5).",
    source="4.2",
    jobs=jobs,
    handlers={"scales": feed_levels},
    sections=(
        Section(
            kind="scales", title="Exp. 2: perturbed levels (Fig. 5)", covered="Exp. 2, levels",
            table=levels_table, drawings=(one_level_drawing, two_levels_drawing),
        ),
    ),
)  # fmt: skip
