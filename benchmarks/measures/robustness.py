"""How far each image has to be changed before a network errs (paper, 4.2).

The curves that follow from it are in `benchmarks.measures.curves`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.runs.effort import Effort, StrongEffort

if TYPE_CHECKING:
    from foolbox.attacks.base import MinimizationAttack

    from benchmarks.measures.attacks import NamedAttack

WRONG_FROM_THE_START = -1.0


@dataclass(frozen=True, eq=False)
class Perturbations:
    """The closest misclassified version found of each image.

    Args:
        images: (N, C, H, W) in [0, 1]; the clean image where it was wrong from the start, or where
            nothing was found.
        l2: (N,) L2 norms of the perturbations for images in [0, 1]; -1 where the clean image is
            wrong, infinity where nothing was found.
    """

    images: Tensor
    l2: Tensor

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
    repeats: int = 3,
    batch: int = 128,
    seed: int = 0,
    quiet: bool = False,
    before_batch: Callable[[], None] | None = None,
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
        repeats: how often to attack.
        batch: images attacked at once.
        seed: of all random draws; the global generators are left as they were.
        quiet: no progress bar.
        before_batch: called before each batch; may raise to stop.

    Raises:
        BenchmarkError: the model is in training mode, or values lie outside [0, 1].
    """
    check(model, images)
    foolbox_attack = attack.make(effort or Effort())
    found = images.clone()
    l2 = torch.full((len(images),), math.inf, device=images.device)
    right = predict(model, images, batch=batch) == labels
    l2[~right] = WRONG_FROM_THE_START
    rounds = repeats if attack.random else 1
    # an empty tensor would split into one empty batch
    batches = right.nonzero().flatten().split(batch) * rounds if right.any() else ()
    bar = tqdm(batches, desc=attack.name, unit="batch", leave=False, disable=quiet or None)
    with seeded(seed), bar:
        for chosen in bar:
            if before_batch is not None:
                before_batch()
            adversarial, norms = _attack(model, images[chosen], labels[chosen], foolbox_attack)
            closer = norms < l2[chosen]
            found[chosen[closer]] = adversarial[closer]
            l2[chosen[closer]] = norms[closer]
    return Perturbations(found, l2)


def _attack(
    model: nn.Module, images: Tensor, labels: Tensor, attack: MinimizationAttack
) -> tuple[Tensor, Tensor]:
    """One run on one batch: the images (N, C, H, W) and their L2 (N,), infinite where it failed."""
    from foolbox import PyTorchModel

    wrapped = PyTorchModel(model, bounds=(0, 1), device=images.device)
    with warnings.catch_warnings():
        # These images are recorded as not found.
        warnings.filterwarnings("ignore", message=".*failed to draw sufficient random inputs")
        adversarial, _, _ = attack(wrapped, images, labels, epsilons=None)
    # blended noise leaves [0, 1] by a rounding error
    adversarial = adversarial.clamp(0, 1)
    fooled = predict(model, adversarial, batch=len(images)) != labels
    norms = (adversarial - images).flatten(1).norm(dim=1)
    return adversarial, torch.where(fooled, norms, math.inf)


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
