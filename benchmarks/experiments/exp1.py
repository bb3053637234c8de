"""Experiment 1: test accuracy of the bottom-up network and the three top-down ones (Fig. 4)."""

from __future__ import annotations

from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.figures import accuracy_drawing
from benchmarks.findings.section import Section
from benchmarks.findings.tables import accuracy_table
from benchmarks.measures.training import train
from benchmarks.runs.recipes import trainings

EXPERIMENT = Experiment(
    name="exp1",
    summary="Test accuracy of bottom-up and top-down networks (paper, Fig. 4).",
    source="4.1",
    jobs=trainings,
    handlers={"train": train},
    sections=(
        Section(
            kind="train", title="Exp. 1: bottom-up versus top-down (Fig. 4)",
            table=accuracy_table, drawings=(accuracy_drawing,), covered="Exp. 1",
            every_configuration=True,
        ),
    ),
)  # fmt: skip
