"""Table 1: the numbers of trainable parameters."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.section import Section
from benchmarks.findings.tables import parameter_table
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import Profile
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects import datasets
from benchmarks.subjects.arrangements import ARRANGEMENTS, Arrangement
from benchmarks.subjects.networks import build, made_for

# what the paper prints
PAPER: dict[str, tuple[str, str, str, str]] = {
    "lenet-fc": ("8k", "14k", "23k", "58k"),
    "nin-light": ("62k", "213k", "215k", "214k"),
    "resnet32": ("468k", "528k", "320k", "563k"),
    "nin": ("970k", "3,368k", "3,397k", "3,388k"),
}
_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class ParametersConfig:
    """One network to count.

    Args:
        model, arrangement, classes: as in `benchmarks.subjects.networks.build`.
        data: whose image size it is built for; None for the paper's.
    """

    model: str
    arrangement: Arrangement
    classes: int | None
    data: str | None


def jobs(profile: Profile) -> list[Job]:
    """The paper's four networks, and the profile's own where they are others."""
    others = {s.model: s.data for s in profile.settings if s.model not in PAPER}
    listed = [(model, None) for model in PAPER] + list(others.items())
    return [
        Job(
            "parameters",
            ParametersConfig(
                model=model,
                arrangement=arrangement,
                data=data,
                classes=_CLASSES if data is None else None,
            ),
        )
        for model, data in listed
        for arrangement in profile.arrangements
    ]


def count(job: Job, workspace: Workspace) -> list[Row]:
    """The handler of kind `parameters`: one row with `parameters`, and the paper's rounded figure."""
    config: ParametersConfig = job.config
    if config.data is None:
        size, classes = made_for(config.model), config.classes or _CLASSES
        paper = PAPER[config.model][ARRANGEMENTS.index(config.arrangement)]
    else:
        images = datasets.load(config.data, root=workspace.data_root)
        size, classes, paper = images.size, len(images.classes), None
    network = build(config.model, arrangement=config.arrangement, size=size, classes=classes)
    parameters = sum(p.numel() for p in network.parameters())
    return [{"parameters": parameters, "paper": paper}]


EXPERIMENT = Experiment(
    name="table1",
    summary="Parameter counts of all networks (paper, Table 1).",
    source="4",
    jobs=jobs,
    handlers={"parameters": count},
    sections=(Section(kind="parameters", title="Table 1: parameters", table=parameter_table),),
)
