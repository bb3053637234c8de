"""What the attacks that foolbox 3 lacks have in common: most try a list of perturbed images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import eagerpy as ep
import torch
from foolbox.attacks.base import (
    MinimizationAttack,
    get_criterion,
    get_is_adversarial,
    raise_if_kwargs,
    verify_input_bounds,
)
from foolbox.criteria import Criterion
from foolbox.distances import l2
from foolbox.models import Model
from torch import Tensor

T = TypeVar("T")


class TensorAttack(MinimizationAttack):
    """foolbox's form around a search on PyTorch tensors (N, C, H, W)."""

    distance = l2

    @abstractmethod
    def search(self, model: Model, images: Tensor, criterion: Criterion) -> Tensor:
        """The closest misclassified images found, within the bounds; else the images themselves."""

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """`search`, from and to whatever kind of arrays the images are."""
        raise_if_kwargs(kwargs)
        wrapped, restore_type = ep.astensor_(inputs)
        verify_input_bounds(wrapped, model)
        found = self.search(model, wrapped.raw, get_criterion(criterion))
        return restore_type(ep.astensor(found))


class CandidateAttack(TensorAttack):
    """Tries one candidate per image after the other and keeps a misclassified one.

    A subclass says in `candidates` what is tried. Which one is kept depends on `growing`: the first
    (then the attack ends as soon as every image has one), or the closest in L2 of them all.

    An image for which nothing is found comes back as it was.
    """

    growing: ClassVar[bool] = False

    @abstractmethod
    def candidates(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        """Perturbed batches (N, C, H, W) within the bounds, in the order in which they are tried."""

    def search(self, model: Model, images: Tensor, criterion: Criterion) -> Tensor:
        """The misclassified candidate of each image."""
        is_adversarial = get_is_adversarial(criterion, model)
        best = images.clone()
        start = is_adversarial(ep.astensor(images)).raw
        nearest = torch.where(start, 0.0, torch.inf).to(images)
        for candidate in self.candidates(images, (model.bounds.lower, model.bounds.upper)):
            far = (candidate - images).flatten(1).norm(dim=1)
            better = is_adversarial(ep.astensor(candidate)).raw & (far < nearest)
            if self.growing:
                better &= nearest.isinf()
            nearest = torch.where(better, far, nearest)
            best[better] = candidate[better]
            if self.growing and nearest.isfinite().all():
                break
        return best
