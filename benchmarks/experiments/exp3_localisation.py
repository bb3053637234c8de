"""Exp. 3 (b): do Grad-CAM heatmaps find the objects? (paper, Fig. 9)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from torch import Tensor

from benchmarks.experiments.exp3_pair import (
    Pair,
    all_ones,
    heats,
    json_differences,
    json_shares,
    pair_jobs,
    pair_of,
)
from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.localisation_figure import localisation_drawing
from benchmarks.findings.localisation_tables import localisation_table
from benchmarks.findings.section import Section
from benchmarks.measures.localisation import THRESHOLD, Comparison, compare
from benchmarks.measures.localisation_objects import (
    black_background_objects,
    mask_objects,
    require_black_background,
)
from benchmarks.measures.localisation_pairs import differences
from benchmarks.runs.jobs import Job, Row, Scaling
from benchmarks.runs.profiles import Profile
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects import datasets
from benchmarks.subjects.datasets import as_floats


@dataclass(frozen=True, kw_only=True)
class LocalisationConfig:
    """What the figures of one pair depend on.

    Args:
        images: how many test images are looked at; all where None.
        threshold: of heatmaps and of images (or masks).
        scalings: how heatmaps are brought to [0, 1]; see `benchmarks.measures.explain.scaled`.
        masks: a data set whose test images are the objects of these test images; None where the
            objects stand on black.
    """

    images: int | None = None
    threshold: float = THRESHOLD
    scalings: tuple[Scaling, ...] = ("centred", "min-max")
    masks: str | None = None


def jobs(profile: Profile) -> list[Job]:
    """A job per run and setting whose objects can be told from the background.

    Raises:
        BenchmarkError: there is no such setting.
    """
    settings = [s for s in profile.explained if profile.masks or s.data in datasets.ON_BLACK]
    if not settings:
        require_black_background(profile.explained[0].data)
    config = LocalisationConfig(
        images=profile.localisation_images, scalings=profile.scaling, masks=profile.masks
    )
    return pair_jobs("localisation", config, settings, profile)


def localise(job: Job, workspace: Workspace) -> Iterator[Row]:
    """Over the images that both get right: a row per sort of heatmap, and the chance line."""
    config: LocalisationConfig = job.config
    pair = pair_of(job, workspace, limit=config.images)
    objects = _objects(config, job.needs[0], pair, workspace)[pair.chosen].cpu()
    for scaling in config.scalings:
        bottom_up: Comparison | None = None
        for heat in heats(pair, scaling):
            workspace.pause_if_due()
            found = compare(heat.heatmaps, objects, threshold=config.threshold)
            bottom_up = bottom_up or found
            lead = differences(bottom_up, found, seed=job.needs[0].config.seed)
            compared = {} if found is bottom_up else {"less_bu": json_differences(lead)}
            yield {**heat.columns, **_figures(found, config), **compared}
    chance = compare(all_ones(pair, pair.bu).heatmaps, objects, threshold=config.threshold)
    # no network's own
    columns = {**all_ones(pair, pair.bu).columns, "arrangement": None}
    yield {**columns, **_figures(chance, config)}


def _objects(config: LocalisationConfig, needed: Job, pair: Pair, workspace: Workspace) -> Tensor:
    """(N, H, W), bool, of all test images."""
    images = pair.images
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


def _figures(found: Comparison, config: LocalisationConfig) -> Row:
    figures = asdict(found.figures())
    return {
        "threshold": config.threshold,
        **json_shares({**figures, "box_threshold": found.box_threshold}),
        "images": len(found.hits),
    }


EXPERIMENT = Experiment(
    name="exp3-localisation",
    summary="Grad-CAM heatmaps against objects: precision, recall, PxAP, boxes (Fig. 9)",
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
