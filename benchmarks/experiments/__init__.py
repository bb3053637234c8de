"""The experiments: every module here that has `EXPERIMENT` is a subcommand, with its jobs' handlers."""

from __future__ import annotations

import sys

from benchmarks.experiments.experiment import Experiment, Handler
from benchmarks.findings.section import Section
from benchmarks.registry import offered

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in sorted(
        offered(sys.modules[__name__], "EXPERIMENT"), key=lambda found: (found.source, found.name)
    )
}

HANDLERS: dict[str, Handler] = {
    kind: handler
    for experiment in EXPERIMENTS.values()
    for kind, handler in experiment.handlers.items()
}

# which experiment the rows of a kind belong to
OWNERS: dict[str, str] = {
    kind: experiment.name for experiment in EXPERIMENTS.values() for kind in experiment.handlers
}

# of the report
SECTIONS: tuple[Section, ...] = tuple(
    section for experiment in EXPERIMENTS.values() for section in experiment.sections
)
