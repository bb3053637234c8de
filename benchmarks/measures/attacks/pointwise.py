"""foolbox's pointwise attack, started from salt and pepper noise image by image."""

from __future__ import annotations

import eagerpy as ep
import torch
from foolbox.attacks import PointwiseAttack, SaltAndPepperNoiseAttack
from foolbox.attacks.base import get_is_adversarial
from foolbox.criteria import Criterion, Misclassification
from foolbox.models import Model
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.measures.attacks.candidates import TensorAttack
from benchmarks.measures.attacks.named import NamedAttack


class StartedPointwiseAttack(TensorAttack):
    """Pointwise (Schott et al., arXiv 1805.09190) that leaves out images without a start.

    It starts from salt and pepper noise that is misclassified and sets pixel by pixel back, or as
    far back as the class stays wrong. foolbox's attack gives up the whole batch when one image has
    no such start; here this image comes back as it was and the others go on.

    Args:
        steps: of the search for a start.
    """

    def __init__(self, *, steps: int = 1000) -> None:
        self.steps = steps

    def search(self, model: Model, images: Tensor, criterion: Criterion) -> Tensor:
        """Unchanged where there was no start.

        Raises:
            BenchmarkError: the criterion is not misclassification.
        """
        if not isinstance(criterion, Misclassification):
            raise BenchmarkError(
                "criterion", seen=repr(criterion), expected="foolbox.criteria.Misclassification",
                remedy="use foolbox.attacks.PointwiseAttack where every image has a start",
            )  # fmt: skip
        labels = criterion.labels.raw
        starts = SaltAndPepperNoiseAttack(steps=self.steps).run(model, images, criterion)
        best = images.clone()
        chosen = torch.arange(len(best), device=best.device)
        # In a smaller batch the sums are rounded in another way: ask again until all agree.
        while len(chosen):
            wanted = Misclassification(labels[chosen])
            wrong = get_is_adversarial(wanted, model)(ep.astensor(starts[chosen])).raw
            if wrong.all():
                points = ep.astensor(starts[chosen])
                best[chosen] = PointwiseAttack().run(
                    model, best[chosen], wanted, starting_points=points
                )
                break
            chosen = chosen[wrong]
        return best


ATTACKS = (
    NamedAttack(
        name="PointwiseAttack", title="Pointwise", panel=3, family="correlated",
        random=True, make=lambda effort: StartedPointwiseAttack(steps=effort.steps),
    ),
)  # fmt: skip
