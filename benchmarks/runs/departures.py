"""Where a job departs from the paper's recipe: what makes its result a slice of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields

from benchmarks.runs.jobs import JSON, Job, TrainConfig, in_order
from benchmarks.runs.profiles import PROFILES, Setting
from benchmarks.runs.recipes import training

# what a training is of; its repetitions and their seed are no part of a recipe
_WHICH = ("model", "arrangement", "data", "augmented", "run", "seed")
_PAPER = PROFILES["paper"]
# per kind of measurement what says how large it is, and the paper's size
_MEASURED: dict[str, dict[str, JSON]] = {
    "robustness": {
        "images": _PAPER.attack_images,
        "repeats": _PAPER.attack_repeats,
        "effort": asdict(_PAPER.effort),
    },
    "strong": {"images": _PAPER.strong_images, "effort": asdict(_PAPER.strong_effort)},
    "corruptions": {"images": _PAPER.corruption_images},
    "localisation": {"images": _PAPER.localisation_images},
}


def departures(job: Job) -> dict[str, JSON]:
    """What differs from the paper's recipe, in the job and in all that it needs.

    Returns:
        From the name of a value to the job's and the paper's. Empty for the recipe itself.

    Example:
        >>> from dataclasses import replace
        >>> short = replace(PROFILES["paper"], epochs=10)
        >>> departures(training(Setting("lenet-fc", "mnist"), "td", 0, short))
        {'epochs': [10, 30]}
    """
    return {
        name: [ours, papers]
        for part in in_order([job])
        for name, ours, papers in (_of_training(part) if part.kind == "train" else _of_size(part))
        if ours != papers
    }


def _of_training(job: Job) -> Iterator[tuple[str, JSON, JSON]]:
    config: TrainConfig = job.config
    setting = Setting(config.model, config.data, config.augmented)
    papers = training(setting, config.arrangement, config.run, _PAPER).config
    for field in fields(config):
        if field.name not in _WHICH:
            yield field.name, getattr(config, field.name), getattr(papers, field.name)


def _of_size(job: Job) -> Iterator[tuple[str, JSON, JSON]]:
    found = asdict(job.config)
    for name, papers in _MEASURED.get(job.kind, {}).items():
        if name in found:
            yield name, found[name], papers
