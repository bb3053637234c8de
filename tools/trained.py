"""A trained network of a folder of results, found by what it is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from benchmarks.runs.jobs import Job, Row, TrainConfig
from benchmarks.runs.workspace import Workspace


def trained(workspace: Workspace, *, model: str, data: str, arrangement: str) -> tuple[Job, Row]:
    """The first training that fits, and its row.

    Raises:
        SystemExit: there is none.
    """
    wanted = {"model": model, "data": data, "arrangement": arrangement}
    for row in workspace.store.rows():
        if row["kind"] == "train" and row["status"] == "done" and wanted.items() <= row.items():
            config: dict[str, Any] = {f.name: row[f.name] for f in fields(TrainConfig)}
            job = Job("train", TrainConfig(**config))
            if job.id == row["job"]:
                return job, row
    raise SystemExit(f"no trained {wanted} in {workspace.root}: run exp1 with --results first")
