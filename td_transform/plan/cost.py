"""What a planned network costs, level by level, beside what the bottom-up model costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What one image costs.

    Args:
        multiply_adds: of convolutions, linear layers and other matrix products.
        activation_bytes: kept for the backward pass, in the model's own precision.
    """

    multiply_adds: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True)
class Recomputation:
    """The levels that are run again in the backward pass.

    Args:
        levels: their places in the emitted module, from fine to coarse.
        kept_bytes: for the backward pass, an image, by the whole network.
    """

    levels: tuple[str, ...]
    kept_bytes: int


@dataclass(frozen=True)
class PlanCost:
    """The work of one image at the plan's input size, found on the meta device.

    Args:
        pyramid: of the image levels.
        levels: from coarse to fine.
        head: from the last map to the logits.
        bottom_up: of the whole bottom-up model.
    """

    pyramid: Work
    levels: tuple[Work, ...]
    head: Work
    bottom_up: Work

    @property
    def total(self) -> Work:
        """The whole top-down network's."""
        parts = (self.pyramid, *self.levels, self.head)
        return Work(
            sum(part.multiply_adds for part in parts), sum(part.activation_bytes for part in parts)
        )

    @property
    def ratio(self) -> float:
        """Multiply-adds of the top-down network per one of the bottom-up model."""
        return self.total.multiply_adds / max(self.bottom_up.multiply_adds, 1)

    @property
    def memory_ratio(self) -> float:
        """Bytes that the top-down network keeps per byte of the bottom-up model."""
        return self.total.activation_bytes / max(self.bottom_up.activation_bytes, 1)
