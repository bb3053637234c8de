"""What an attack is given, and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from benchmarks.measures.attacks.draws import Draws


class Answers(Protocol):
    """The network under attack, as `benchmarks.measures.queries.Queries` lets it be asked."""

    @property
    def model(self) -> nn.Module:
        """The network itself, for attacks that need its gradients."""

    def fooled(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """Which candidates (M, C, H, W) of the images numbered `rows` (M,) are misclassified."""

    def classes(self, images: Tensor) -> Tensor:
        """What images (M, C, H, W) are taken for, (M,)."""


@dataclass(frozen=True, eq=False)
class Target:
    """A batch of images to be changed until the network errs.

    Args:
        images: (N, C, H, W) in [0, 1], all of them right.
        labels: (N,).
        network: to be asked.
        draws: the attack's random numbers.
        limit: (N,) L2 norms found before; only a closer image is of use.
        starts: (N, C, H, W) images that another attack found (`NamedAttack.starts_from`), the clean
            image where it found none.
    """

    images: Tensor
    labels: Tensor
    network: Answers
    draws: Draws
    limit: Tensor
    starts: Tensor | None = None


class Search(ABC):
    """An attack with its options."""

    @abstractmethod
    def search(self, target: Target) -> Tensor:
        """Misclassified images (N, C, H, W) in [0, 1]; the clean image where none was found.

        Whatever it gives back, the network was asked about it.
        """

    def varies(self, size: Sequence[int]) -> bool:
        """Whether repeating it on images of this size (C, H, W) may find something closer."""
        return False


def l2(changes: Tensor) -> Tensor:
    """Norms (N,) of changes (N, ...)."""
    norms: Tensor = changes.flatten(1).norm(dim=1)
    return norms
