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
from pathlib import Path

import torch

from benchmarks.experiments.exp2 import subject
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.robustness import Perturbations, minimal_perturbations
from benchmarks.runs.workspace import Place, Workspace
from td_transform.table import format_table
from tools.trained import trained


def main() -> None:
    """Print a line per attack, and the sum."""
    options = _options()
    torch.set_num_threads(1)
    place = Place(root=options.results, data_root=options.data_root, quiet=True)
    workspace = Workspace(place)
    job, _ = trained(
        workspace, model=options.model, data=options.data, arrangement=options.arrangement
    )
    tried = subject(job, options.images, workspace)
    rows, total = [], 0.0
    found: dict[str, Perturbations] = {}
    for name, attack in ATTACKS.items():
        start = time.process_time()
        found[name] = minimal_perturbations(
            tried.network, tried.images, tried.labels, attack, repeats=options.repeats,
            quiet=True, starts=found[attack.starts_from].images if attack.starts_from else None,
        )  # fmt: skip
        seconds = time.process_time() - start
        total += seconds
        counts = [
            f"{found[name].questions.get(kind, 0) / options.images:.0f}"
            for kind in ("float32", "bfloat16")
        ]
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


if __name__ == "__main__":
    main()
