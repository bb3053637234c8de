"""Where a training step's time goes: the network's own operators, or the data and all around it.

Run it with ``python -m tools.training_time``; it needs MNIST in ``--data-root``. It prints, per network,
the milliseconds of a step and the share of its operators, from torch's profiler, and exits with 1 where
the share is below 90 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.measures.training import Trainer
from benchmarks.runs.arithmetic import make_deterministic
from benchmarks.runs.profiles import PROFILES, Setting
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Place, Workspace
from benchmarks.subjects.arrangements import PAIR, Arrangement
from benchmarks.subjects.augment import augment
from benchmarks.subjects.datasets import as_floats
from td_transform.table import format_table

STEPS = 20
LEAST_SHARE = 0.9


def measure(model: str, arrangement: Arrangement, data_root: Path) -> tuple[float, float]:
    """Milliseconds of a step, and the share of it that forward and backward passes take."""
    job = training(Setting(model, "mnist"), arrangement, 0, PROFILES["core"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(job, Workspace(Place(root=Path(folder), data_root=data_root, quiet=True)))
        trainer.network.train()
        batches = torch.randperm(len(trainer.training)).split(trainer.config.batch)[: STEPS + 5]
        for batch in batches[:5]:
            step(trainer, batch)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            start = time.perf_counter()
            for batch in batches[5:]:
                step(trainer, batch)
            wall = time.perf_counter() - start
    spent = {event.key: event.cpu_time_total / 1e6 for event in found.key_averages()}
    return 1000 * wall / STEPS, spent["network"] / wall


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["lenet-fc"])
    options = parser.parse_args()
    make_deterministic()
    shares, rows = [], []
    for model in options.models:
        for arrangement in PAIR:
            milliseconds, share = measure(model, arrangement, options.data_root)
            shares.append(share)
            rows.append([model, arrangement, f"{milliseconds:.1f}", f"{100 * share:.1f}"])
    print("\n".join(format_table(["network", "arrangement", "ms per step", "network (%)"], rows)))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    sys.exit(min(shares) < LEAST_SHARE)


if __name__ == "__main__":
    main()
