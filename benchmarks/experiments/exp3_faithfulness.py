"""Exp. 3 (b) where no object is marked: does the network heed what its heatmap shows?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.experiments.exp3_pair import (
    Heat,
    Pair,
    all_ones,
    heats,
    json_differences,
    json_shares,
    pair_jobs,
    pair_of,
)
from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.localisation_tables import faithfulness_table
from benchmarks.findings.section import Section
from benchmarks.measures.explain_faithfulness import FAITHFULNESS, Faithfulness, faithfulness
from benchmarks.measures.localisation import THRESHOLD, mean
from benchmarks.measures.localisation_pairs import paired
from benchmarks.runs.jobs import Job, Row, Scaling
from benchmarks.runs.profiles import Profile
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects.datasets import as_floats

_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class FaithfulnessConfig:
    """What the figures of one pair depend on.

    Args:
        images: how many test images are looked at; all where None.
        threshold: of heatmaps, for the share that they mark.
        scalings: how heatmaps are brought to [0, 1]; see `benchmarks.measures.explain.scaled`.
    """

    images: int | None = None
    threshold: float = THRESHOLD
    scalings: tuple[Scaling, ...] = ("centred", "min-max")


def jobs(profile: Profile) -> list[Job]:
    """A job per run and explained setting; objects are not needed."""
    config = FaithfulnessConfig(images=profile.localisation_images, scalings=profile.scaling)
    return pair_jobs("faithfulness", config, profile.explained, profile)


def ask(job: Job, workspace: Workspace) -> Iterator[Row]:
    """Over the images that both get right: a row per sort of heatmap, and a chance line each."""
    config: FaithfulnessConfig = job.config
    pair = pair_of(job, workspace, limit=config.images)
    for subject in pair.subjects:
        heat = all_ones(pair, subject)
        yield {**heat.columns, **_figures(_answers(heat, pair, config, workspace))}
    for scaling in config.scalings:
        bottom_up: Faithfulness | None = None
        for heat in heats(pair, scaling):
            found = _answers(heat, pair, config, workspace)
            bottom_up = bottom_up or found
            lead = {
                name: paired(getattr(bottom_up, name), getattr(found, name))
                for name in FAITHFULNESS
            }
            compared = {} if found is bottom_up else {"less_bu": json_differences(lead)}
            yield {**heat.columns, **_figures(found), **compared}


def _answers(
    heat: Heat, pair: Pair, config: FaithfulnessConfig, workspace: Workspace
) -> Faithfulness:
    """In chunks, so that a time budget is kept."""
    parts: list[Faithfulness] = []
    for chunk in range(0, len(pair.chosen), _CHUNK):
        workspace.pause_if_due()
        some = pair.chosen[chunk : chunk + _CHUNK]
        parts.append(
            faithfulness(
                heat.subject.network,
                as_floats(pair.images.test_images[some]),
                pair.images.test_labels[some],
                heat.heatmaps[chunk : chunk + _CHUNK].to(some.device),
                threshold=config.threshold,
            )
        )
    return Faithfulness(
        **{
            name: np.concatenate([np.zeros(0), *(getattr(part, name) for part in parts)])
            for name in FAITHFULNESS
        }
    )


def _figures(found: Faithfulness) -> Row:
    shares = json_shares({name: mean(getattr(found, name)) for name in FAITHFULNESS})
    return {**shares, "images": len(found.drop)}


EXPERIMENT = Experiment(
    name="exp3-faithfulness",
    summary="Grad-CAM heatmaps without objects: drop, deletion, insertion",
    source="4.3 (b)",
    jobs=jobs,
    handlers={"faithfulness": ask},
    sections=(
        Section(
            kind="faithfulness", title="Exp. 3: heatmaps without objects",
            table=faithfulness_table, covered="Exp. 3, without objects",
        ),
    ),
)  # fmt: skip
