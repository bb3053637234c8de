"""How far each image has to be changed before a network errs (paper, 4.2).

The curves that follow from it are in `benchmarks.measures.curves`, the comparison of two networks
image by image in `benchmarks.measures.paired`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.files import save_file
from benchmarks.measures.attacks import ATTACKS, NamedAttack
from benchmarks.measures.attacks.draws import Draws
from benchmarks.measures.attacks.named import Distance
from benchmarks.measures.attacks.search import Target, l2
from benchmarks.measures.queries import Network, Queries
from benchmarks.runs.effort import Effort, StrongEffort
from benchmarks.runs.interrupts import held_back
from benchmarks.runs.workspace import BudgetSpent

WRONG_FROM_THE_START = -1.0
# On so many images it is tried out how exact bfloat16 is, and how fast.
_TRIED = 32


@dataclass(frozen=True, eq=False)
class Perturbations:
    """The closest misclassified version found of each image.

    Args:
        images: (N, C, H, W) in [0, 1]; the clean image where it was wrong from the start, or where
            nothing was found.
        l2: (N,) L2 norms of the perturbations for images in [0, 1]; -1 where the clean image is
            wrong, infinity where nothing was found.
        questions: how many images the network was asked about, by precision, in this call.
    """

    images: Tensor
    l2: Tensor
    questions: Mapping[str, int] = field(default_factory=dict)

    def listed(self) -> list[float | None]:
        """The norms as they are kept in results: four decimals, None where nothing was found."""
        return [round(value, 4) if math.isfinite(value) else None for value in self.l2.tolist()]


def minimal_perturbations(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: NamedAttack,
    *,
    effort: Effort | StrongEffort | None = None,
    distance: Distance = "l2",
    starts: Tensor | None = None,
    repeats: int = 3,
    batch: int = 128,
    seed: int = 0,
    low_precision: bool | None = None,
    quiet: bool = False,
    pause: Callable[[float], None] | None = None,
    checkpoint: Path | None = None,
) -> Perturbations:
    """Attack the images that are right and keep the closest misclassified one of all repetitions.

    An attack without randomness is run once: it would find the same again.

    Args:
        model: takes images in [0, 1]; in eval mode.
        images: (N, C, H, W) float, in [0, 1].
        labels: (N,).
        attack: one of `ATTACKS` of benchmarks.measures.attacks, or of `MINIMAL` of
            benchmarks.measures.strong_attacks.
        effort: how long to search; as the paper where None.
        distance: `linf`: as the authors ran it (`NamedAttack.authors`).
        starts: (N, C, H, W) what the attack found that this one starts from
            (`NamedAttack.starts_from`); it is run first where None.
        repeats: how often to attack.
        batch: images attacked at once.
        seed: of all random draws; the global generators are left as they were.
        low_precision: whether bfloat16 is asked first (`Network.of`); if it is faster where None.
        quiet: no progress bar.
        pause: called before each question to the network, with the seconds that it takes; may raise
            to stop.
        checkpoint: where an interrupted search is kept, to go on from; the caller deletes it.

    Raises:
        BenchmarkError: the model is in training mode, or values lie outside [0, 1].
    """
    check(model, images)
    search = attack.search(effort or Effort(), distance)
    if attack.starts_from is not None and starts is None:
        starts = minimal_perturbations(
            model, images, labels, ATTACKS[attack.starts_from], effort=effort, distance=distance,
            repeats=repeats, batch=batch, seed=seed, low_precision=low_precision, quiet=quiet,
            pause=pause,
        ).images  # fmt: skip
    right = predict(model, images, batch=batch) == labels
    network = Network.of(model, images[right][:_TRIED], low_precision=low_precision)
    rounds = repeats if search.varies(images.shape[1:]) else 1
    # an empty tensor would split into one empty batch
    batches = right.nonzero().flatten().split(batch) if right.any() else ()
    parts = [(number, chosen) for number in range(rounds) for chosen in batches]
    progress = _Progress.of(images, right, checkpoint)
    bar = tqdm(
        parts, initial=progress.done, desc=attack.name, unit="batch", leave=False,
        disable=quiet or None,
    )  # fmt: skip
    with _kept(progress, checkpoint), bar:
        for number, chosen in parts[progress.done :]:
            queries = Queries(network, labels[chosen], notes=progress.notes, pause=pause)
            target = Target(
                images[chosen], labels[chosen], queries,
                Draws(chosen.tolist(), seed=seed, repeat=number), progress.l2[chosen],
                None if starts is None else starts[chosen],
            )  # fmt: skip
            with seeded(seed + number):
                found = search.search(target)
            with held_back():
                progress.add(chosen, found, l2(found - images[chosen]))
            bar.update()
    return Perturbations(progress.images, progress.l2, network.questions)


@dataclass
class _Progress:
    """A search between two questions.

    Args:
        images: (N, C, H, W) found so far.
        l2: (N,) as in `Perturbations`.
        done: how many pairs of repetition and batch.
        notes: the answers that the unfinished one has got.
    """

    images: Tensor
    l2: Tensor
    done: int = 0
    notes: list[Tensor] = field(default_factory=list)

    @staticmethod
    def of(images: Tensor, right: Tensor, checkpoint: Path | None) -> _Progress:
        """From the checkpoint where there is one."""
        if checkpoint is not None and checkpoint.exists():
            kept = torch.load(checkpoint, map_location=images.device, weights_only=True)
            return _Progress(**kept)
        l2 = torch.full((len(images),), math.inf, device=images.device)
        l2[~right] = WRONG_FROM_THE_START
        return _Progress(images.clone(), l2)

    def add(self, chosen: Tensor, found: Tensor, norms: Tensor) -> None:
        """What a repetition found for a batch; it is the clean image where it found nothing."""
        closer = (norms > 0) & (norms < self.l2[chosen])
        self.images[chosen[closer]] = found[closer]
        self.l2[chosen[closer]] = norms[closer]
        self.done += 1
        self.notes = []


@contextmanager
def _kept(progress: _Progress, checkpoint: Path | None) -> Iterator[None]:
    """An interrupted search is written down."""
    try:
        yield
    except (KeyboardInterrupt, BudgetSpent):
        if checkpoint is not None:
            with held_back():
                save_file(checkpoint, vars(progress))
        raise


def check(model: nn.Module, images: Tensor) -> None:
    """Whether these can be attacked.

    Raises:
        BenchmarkError: the model is in training mode, or values lie outside [0, 1].
    """
    if model.training:
        raise BenchmarkError(
            "model", seen="a model in training mode",
            expected="one whose answers don't depend on the rest of the batch",
            remedy="call model.eval()",
        )  # fmt: skip
    low, high = images.aminmax()
    if low < 0 or high > 1:
        raise BenchmarkError(
            "images", seen=f"values from {low:g} to {high:g}", expected="values in [0, 1]",
            remedy="divide bytes by 255, and leave the normalisation to the model",
        )  # fmt: skip


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch: int = 128) -> Tensor:
    """Classes (N,) of images (N, C, H, W)."""
    return torch.cat([model(part).argmax(1) for part in images.split(batch)])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what attacks draw from, PyTorch and NumPy, and put both back afterwards."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
