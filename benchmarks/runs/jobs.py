"""What can be run: a job is a kind of work and its fully resolved configuration.

A job's id is a hash of what it is, so that the same work has the same id in every call, on every
machine, and a job that is done is recognised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from benchmarks.subjects.arrangements import Arrangement

JSON = str | int | float | bool | None | list[Any] | dict[str, Any]
Row = dict[str, JSON]
Precision = Literal["float32", "tf32", "bf16"]
# of heatmaps, to [0, 1] (`benchmarks.measures.explain.scaled`)
Scaling = Literal["centred", "min-max"]
# whose heatmaps a row is about: the network's own; the control, TD's at BU's resolution; and the
# chance line, where every pixel is as hot as any other
OWN_HEAT, POOLED_HEAT, EVEN_HEAT = HEATMAPS = ("own", "pooled to BU's resolution", "all ones")

_SHOWN = ("model", "arrangement", "data", "augmented", "attack", "corruption", "run")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that the numbers of one training depend on.

    Args:
        model: a name for `benchmarks.subjects.networks.build`.
        arrangement: `bu`, or the top-down variant.
        data: a name for `benchmarks.subjects.datasets.load`.
        augmented: train on changed images (`benchmarks.runs.recipes.augmentation_of`).
        run: number of the repetition; each draws weights, order and validation images anew.
        weight_decay: as PyTorch counts it: twice the factor of sum(w^2).
        precision: of the training; a network is always tested in float32.
        norm_momentum: the network's own where None.
        seed: of the whole experiment; together with `run` it seeds the training.

    The others are those of `benchmarks.runs.profiles.Profile`.
    """

    model: str
    arrangement: Arrangement
    data: str
    augmented: bool
    run: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    train_limit: int | None = None
    test_limit: int | None = None
    precision: Precision = "float32"
    norm_momentum: float | None = None
    channels_last: bool = False
    compile: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """One piece of work whose rows are written together.

    Args:
        kind: names the handler that does it (`benchmarks.experiments.HANDLERS`).
        config: a frozen dataclass of JSON values.
        needs: jobs whose results this one reads, for example the training of an attacked network.

    Example:
        >>> config = TrainConfig(
        ...     model="lenet-fc", arrangement="td", data="digits", augmented=False, run=0,
        ...     epochs=1, batch=128, learning_rate=0.1, weight_decay=0.0,
        ... )
        >>> job = Job("train", config)
        >>> len(job.id), job.label
        (12, 'train lenet-fc td digits run 0')
    """

    kind: str
    config: Any
    needs: tuple[Job, ...] = ()

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits of the hash of kind, configuration and what it needs."""
        content = [self.kind, asdict(self.config), [job.id for job in self.needs]]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def setting(self) -> Row:
        """The configuration as a flat row; what it lacks is taken from the first job it needs."""
        inherited = self.needs[0].setting if self.needs else {}
        return {**inherited, **asdict(self.config)}

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        words = [self.kind]
        for name in _SHOWN:
            value = self.setting.get(name)
            if isinstance(value, bool):
                words += [name] if value else []
            elif value is not None:
                words.append(f"{name} {value}" if name == "run" else str(value))
        return " ".join(words)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs with all that they need, each once and after what it needs."""
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.id not in ordered:
            for needed in job.needs:
                add(needed)
            ordered[job.id] = job

    for job in jobs:
        add(job)
    return list(ordered.values())
