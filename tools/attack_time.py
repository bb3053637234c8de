"""How long the ten attacks of Exp. 2 take, and how much of it are questions to the network.

    python -m tools.attack_time RESULTS [--model nin-light --data mnist --arrangement td]
        [--images 32] [--of 1000] [--repeats 3]

RESULTS holds a trained network of these (a row of kind `train`, and its runs/<job>/model.pt). The
attacks run at the paper's effort on some images, on one thread; what is printed for more of them is
extrapolated. Times are those of the processor, so that other programs on the machine matter less
(they still do: they take its caches, and the other half of its core).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.experiments.exp2 import Subject, subject
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.queries import Queries
from benchmarks.measures.robustness import minimal_perturbations
from benchmarks.runs.jobs import Job, TrainConfig
from benchmarks.runs.workspace import Place, Workspace
from td_transform.table import format_table


def main() -> None:
    """Print a line per attack, and the sum."""
    options = _options()
    torch.set_num_threads(1)
    place = Place(root=options.results, data_root=options.data_root, quiet=True)
    tried = _subject(Workspace(place), options)
    rows, total, found = [], 0.0, {}
    for name, attack in ATTACKS.items():
        with _Counted() as asked:
            start = time.process_time()
            found[name] = minimal_perturbations(
                tried.network, tried.images, tried.labels, attack, repeats=options.repeats,
                quiet=True, starts=found[attack.starts_from].images if attack.starts_from else None,
            )  # fmt: skip
            seconds = time.process_time() - start
        total += seconds
        counts = [f"{asked[kind] / options.images:.0f}" for kind in ("float32", "bfloat16")]
        rows.append([name, f"{seconds / options.images:.3f}", *counts])
    print("\n".join(format_table(["attack", "s per image", "float32", "bfloat16 questions"], rows)))
    hours = total / options.images * options.of / 3600
    print(
        f"{total / options.images:.2f} s per image on {options.images} images; extrapolated to "
        f"{options.of}: {hours:.2f} core-hours"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="nin-light")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--arrangement", default="td")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--of", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _subject(workspace: Workspace, options: argparse.Namespace) -> Subject:
    """The first trained network that fits, and its test images."""
    wanted = {name: getattr(options, name) for name in ("model", "data", "arrangement")}
    for row in workspace.store.rows():
        if row["kind"] == "train" and wanted.items() <= row.items():
            names = TrainConfig.__dataclass_fields__
            job = Job("train", TrainConfig(**{name: row[name] for name in names}))
            if job.id == row["job"]:
                return subject(job, options.images, workspace)
    raise SystemExit(f"no trained {wanted} in {options.results}: run exp1 with --results first")


class _Counted:
    """Counts the images that networks are asked about, by precision."""

    def __enter__(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        self._asked = asked = Queries._logits

        def counted(queries: Queries, model: nn.Module, images: Tensor) -> Tensor:
            kind = "float32" if model is queries.network.model else "bfloat16"
            counts[kind] += len(images)
            return asked(queries, model, images)

        Queries._logits = counted  # type: ignore[method-assign]
        return counts

    def __exit__(self, *_: object) -> None:
        Queries._logits = self._asked  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
