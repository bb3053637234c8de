"""The registry: every experiment, and the handler of every kind of job."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.experiments import exp1, exp2, exp2_scales, exp3_gradcam, exp3_localisation, table1
from benchmarks.experiments.experiment import Experiment, Handler
from benchmarks.findings.claims_command import claims
from benchmarks.findings.report_command import report

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        table1.EXPERIMENT,
        exp1.EXPERIMENT,
        exp2.EXPERIMENT,
        exp2_scales.EXPERIMENT,
        exp3_gradcam.EXPERIMENT,
        exp3_localisation.EXPERIMENT,
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

# subcommands that run no jobs: functions whose annotated arguments are their options (tyro)
COMMANDS: dict[str, Callable[..., None]] = {"claims": claims, "report": report}
