"""foolbox's pointwise attack, started from salt and pepper noise image by image."""

from __future__ import annotations

from typing import Any, TypeVar

import eagerpy as ep
import torch
from foolbox.attacks import PointwiseAttack, SaltAndPepperNoiseAttack
from foolbox.attacks.base import (
    MinimizationAttack,
    get_criterion,
    get_is_adversarial,
    raise_if_kwargs,
)
from foolbox.criteria import Misclassification
from foolbox.distances import l2
from foolbox.models import Model

from benchmarks.errors import BenchmarkError
from benchmarks.measures.attacks.named import NamedAttack

T = TypeVar("T")


class StartedPointwiseAttack(MinimizationAttack):
    """Pointwise (Schott et al., arXiv 1805.09190) that leaves out images without a start.

    It starts from salt and pepper noise that is misclassified and sets pixel by pixel back, or as
    far back as the class stays wrong. foolbox's attack gives up the whole batch when one image has
    no such start; here this image comes back as it was and the others go on.

    Args:
        steps: of the search for a start.
    """

    distance = l2

    def __init__(self, *, steps: int = 1000) -> None:
        self.steps = steps

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """The closest images found; unchanged where there was no start.

        Raises:
            BenchmarkError: the criterion is not misclassification.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = ep.astensor_(inputs)
        criterion = get_criterion(criterion)
        if not isinstance(criterion, Misclassification):
            raise BenchmarkError(
                "criterion",
                seen=repr(criterion),
                expected="foolbox.criteria.Misclassification",
                remedy="use foolbox.attacks.PointwiseAttack where every image has a start",
            )
        labels = criterion.labels.raw
        starts = SaltAndPepperNoiseAttack(steps=self.steps).run(model, images, criterion).raw
        best = images.raw.clone()
        chosen = torch.arange(len(best), device=best.device)
        # In a smaller batch the sums are rounded in another way: ask again until all agree.
        while len(chosen):
            wanted = Misclassification(labels[chosen])
            wrong = get_is_adversarial(wanted, model)(ep.astensor(starts[chosen])).raw
            if wrong.all():
                attack = PointwiseAttack()
                best[chosen] = attack.run(
                    model, best[chosen], wanted, starting_points=starts[chosen]
                )
                break
            chosen = chosen[wrong]
        return restore_type(ep.astensor(best))  # type: ignore[no-any-return]


ATTACKS = (
    NamedAttack(
        name="PointwiseAttack",
        title="Pointwise",
        make=lambda effort: StartedPointwiseAttack(steps=effort.steps),
        random=True,
        panel=3,
        family="correlated",
    ),
)
