"""Where a training step's time goes: the network's own operators, or the data and all around it.

Run it with ``python -m tools.training_time``; it needs the data set in ``--data-root``. It prints, per
network, the milliseconds of a step, those of the processor for each image (other programs on the machine
matter less to these) and the share of its operators, from torch's profiler, and exits with 1 where the
share is below 90 %. For the authors' ResNet18 on photographs:

    python -m tools.training_time --data-root DATA --models resnet18-imagenette --data imagenette
        --precision bf16 --steps 2
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.measures.training import Trainer
from benchmarks.runs.arithmetic import make_deterministic
from benchmarks.runs.jobs import Job, Precision
from benchmarks.runs.profiles import PROFILES, Setting
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Place, Workspace
from benchmarks.subjects.arrangements import PAIR
from benchmarks.subjects.augment import augment
from benchmarks.subjects.datasets import as_floats
from td_transform.table import format_table

LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Time:
    """Of a step, in milliseconds.

    Args:
        wall: from its start to its end.
        per_image: of the processor, for one image.
        share: of the wall time that forward and backward passes take.
    """

    wall: float
    per_image: float
    share: float


def measure(job: Job, data_root: Path, steps: int) -> Time:
    """Train for a quarter more steps than are measured."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(job, Workspace(Place(root=Path(folder), data_root=data_root, quiet=True)))
        trainer.network.train()
        first = math.ceil(steps / 4)
        batches = torch.randperm(len(trainer.training)).split(trainer.config.batch)
        for batch in batches[:first]:
            step(trainer, batch)
        measured = batches[first : first + steps]
        with profile(activities=[ProfilerActivity.CPU]) as found:
            start, busy = time.perf_counter(), time.process_time()
            for batch in measured:
                step(trainer, batch)
            wall, busy = time.perf_counter() - start, time.process_time() - busy
    spent = {event.key: event.cpu_time_total / 1e6 for event in found.key_averages()}
    images = sum(map(len, measured))
    return Time(1000 * wall / len(measured), 1000 * busy / images, spent["network"] / wall)


def step(trainer: Trainer, batch: torch.Tensor) -> None:
    """As `Trainer` does it, with the network's part marked."""
    images = augment(
        as_floats(trainer.images.train_images[batch]), trainer.augmentation,
        side=trainer.images.size[-1], generator=trainer.generator,
    )  # fmt: skip
    with record_function("network"):
        loss = trainer._loss(images, trainer.images.train_labels[batch])
        trainer.optimizer.zero_grad()
        loss.backward()
    trainer.optimizer.step()


def main() -> None:
    """Print the table."""
    options = _options()
    make_deterministic()
    sized = replace(PROFILES["core"], precision=options.precision)
    shares, rows = [], []
    for model in options.models:
        setting = Setting(model, options.data, augmented=options.augmented)
        for arrangement in PAIR:
            job = training(setting, arrangement, 0, sized)
            found = measure(job, options.data_root, options.steps)
            shares.append(found.share)
            numbers = [f"{v:.1f}" for v in (found.wall, found.per_image, 100 * found.share)]
            rows.append([model, arrangement, str(job.config.batch), *numbers])
    head = ["network", "arrangement", "batch", "ms per step", "core ms per image", "network (%)"]
    print("\n".join(format_table(head, rows)))
    print(
        f"{options.data}, {options.precision}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    sys.exit(min(shares) < LEAST_SHARE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["lenet-fc"])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--augmented", action="store_true")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
