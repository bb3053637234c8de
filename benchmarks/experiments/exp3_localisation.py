"""Exp. 3 (b): do Grad-CAM heatmaps find the objects? (paper, Fig. 9)"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.figures import localisation_drawing
from benchmarks.findings.section import Section
from benchmarks.findings.tables import localisation_table
from benchmarks.measures.explain import Explainer, Scaling
from benchmarks.measures.localisation import (
    FIGURES,
    THRESHOLD,
    Comparison,
    black_background_objects,
    compare,
    localisation,
    mask_objects,
    require_black_background,
)
from benchmarks.measures.training import predict
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects import datasets
from benchmarks.subjects.arrangements import PAIR
from benchmarks.subjects.datasets import ImageSet, as_floats, balanced_order

_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class LocalisationConfig:
    """What the figures of one pair depend on.

    Args:
        images: how many test images are looked at; all where None.
        threshold: of heatmaps and of images (or masks).
        scaling: how heatmaps are brought to [0, 1]; see `Explainer.heatmaps`.
        masks: a data set whose test images are the objects of these test images; None where the
            objects stand on black.
    """

    images: int | None = None
    threshold: float = THRESHOLD
    scaling: Scaling = "min-max"
    masks: str | None = None


def jobs(profile: Profile) -> list[Job]:
    """A job per run and setting whose objects can be told from the background.

    Raises:
        BenchmarkError: there is no such setting.
    """
    settings = [s for s in profile.explained if profile.masks or s.data in datasets.ON_BLACK]
    if not settings:
        require_black_background(profile.explained[0].data)
    config = LocalisationConfig(images=profile.localisation_images, masks=profile.masks)
    return [
        Job(
            "localisation",
            config,
            needs=tuple(training(setting, arrangement, run, profile) for arrangement in PAIR),
        )
        for run in range(profile.runs)
        for setting in settings
    ]


def localise(job: Job, workspace: Workspace) -> Iterator[Row]:
    """One row per network, over the images that both get right."""
    config: LocalisationConfig = job.config
    images = workspace.data(job.needs[0].config)
    chosen = balanced_order(images.test_labels, seed=job.needs[0].config.seed)[: config.images]
    chosen = chosen.to(workspace.device)
    objects = _objects(config, job.needs[0], images, workspace)
    networks = [workspace.network(needed) for needed in job.needs]
    pictures, labels = images.test_images[chosen], images.test_labels[chosen]
    right = torch.stack([predict(network, pictures) == labels for network in networks])
    both = chosen[right.all(0)]
    for needed, network in zip(job.needs, networks, strict=True):
        explainer = Explainer(network, input_size=images.size)
        comparisons: list[Comparison] = []
        for some in both.split(_CHUNK) if len(both) else ():
            workspace.pause_if_due()
            heatmaps = explainer.heatmaps(
                as_floats(images.test_images[some]),
                images.test_labels[some],
                layers=[explainer.last],
                scaling=config.scaling,
            )
            comparisons.append(compare(heatmaps[0], objects[some], threshold=config.threshold))
        yield {
            "arrangement": needed.config.arrangement,
            "threshold": config.threshold,
            "scaling": config.scaling,
            **_figures(comparisons),
        }


def _objects(
    config: LocalisationConfig, needed: Job, images: ImageSet, workspace: Workspace
) -> Tensor:
    """(N, H, W), bool, of all test images."""
    floats = as_floats(images.test_images)
    if config.masks is None:
        return black_background_objects(floats, data=needed.config.data, threshold=config.threshold)
    limits = (needed.config.train_limit, needed.config.test_limit)
    masks = datasets.load(config.masks, root=workspace.data_root, limits=limits)
    masks = masks.to(workspace.device)
    return mask_objects(
        as_floats(masks.test_images),
        masks.test_labels,
        images=floats,
        labels=images.test_labels,
        threshold=config.threshold,
    )


def _figures(comparisons: Sequence[Comparison]) -> Row:
    """An undefined figure is null."""
    if not comparisons:
        return {**dict.fromkeys(FIGURES), "images": 0}
    found = localisation(comparisons)
    shares = {name: getattr(found, name) for name in FIGURES}
    return {
        **{name: None if math.isnan(share) else share for name, share in shares.items()},
        "images": found.images,
    }


EXPERIMENT = Experiment(
    name="exp3-localisation",
    summary="precision and recall of Grad-CAM masks against objects (Fig. 9)",
    source="4.3 (b)",
    jobs=jobs,
    handlers={"localisation": localise},
    sections=(
        Section(
            kind="localisation", title="Exp. 3: localisation (Fig. 9)",
            table=localisation_table, drawings=(localisation_drawing,),
            covered="Exp. 3, localisation",
        ),
    ),
)  # fmt: skip
