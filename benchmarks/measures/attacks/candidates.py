"""What the attacks that foolbox 3 lacks have in common: they try a list of perturbed images."""

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
from foolbox.distances import l2
from foolbox.models import Model
from torch import Tensor

T = TypeVar("T")


class CandidateAttack(MinimizationAttack):
    """Tries one candidate per image after the other and keeps a misclassified one.

    A subclass says in `candidates` what is tried. Which one is kept depends on `growing`: the first
    (then the attack ends as soon as every image has one), or the closest in L2 of them all.

    Works on PyTorch tensors (N, C, H, W). An image for which nothing is found comes back as it was.
    """

    distance = l2
    growing: ClassVar[bool] = False

    @abstractmethod
    def candidates(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        """Perturbed batches (N, C, H, W) within the bounds, in the order in which they are tried."""

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """The misclassified candidate of each image, within the model's bounds."""
        raise_if_kwargs(kwargs)
        wrapped, restore_type = ep.astensor_(inputs)
        verify_input_bounds(wrapped, model)
        is_adversarial = get_is_adversarial(get_criterion(criterion), model)
        images: Tensor = wrapped.raw

        best = images.clone()
        start = is_adversarial(wrapped).raw
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
        return restore_type(ep.astensor(best))
