"""Any minimising attack of foolbox 3, for networks that have gradients."""

from __future__ import annotations

import torch
from foolbox import PyTorchModel
from foolbox.attacks.base import MinimizationAttack
from torch import Tensor

from benchmarks.measures.attacks.search import Search, Target


class FoolboxAttack(Search):
    """Runs an attack of foolbox on the network itself.

    Args:
        attack: it minimises the L2 norm of the perturbation.
        random: whether repeating it may find something closer.
    """

    def __init__(self, attack: MinimizationAttack, *, random: bool = False) -> None:
        self.attack = attack
        self.random = random

    def varies(self, size: object) -> bool:
        return self.random

    def search(self, target: Target) -> Tensor:
        wrapped = PyTorchModel(target.network.model, bounds=(0, 1), device=target.images.device)
        found, _, _ = self.attack(wrapped, target.images, target.labels, epsilons=None)
        # some leave [0, 1] by a rounding error
        found = found.detach().clamp(0, 1)
        rows = torch.arange(len(found), device=found.device)
        fooled = target.network.fooled(found, rows)
        return torch.where(fooled[:, None, None, None], found, target.images)
