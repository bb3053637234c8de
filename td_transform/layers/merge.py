"""How upsampled features and a lift are joined (paper, Fig. 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

MergeKind = Literal["add-concat", "add", "concat"]


class Merge(nn.Module):
    """Joins coarse features with a lift, for example concat([up + lift, lift]), then runs a unit.

    Args:
        unit: what follows; it reads `width(kind, channels)` channels.
        kind: `add-concat` (the paper's), `add` or `concat`.
    """

    def __init__(self, unit: nn.Module, *, kind: MergeKind = "add-concat") -> None:
        super().__init__()
        self.kind = kind
        self.unit = unit

    @staticmethod
    def width(kind: object, channels: int) -> int:
        """The channels that the unit reads, where both maps have that many."""
        return channels if kind == "add" else 2 * channels

    def forward(self, up: Tensor, lift: Tensor) -> Tensor:
        """Two maps (N, C, H, W) of one size."""
        if self.kind == "add":
            return self.unit(up + lift)  # type: ignore[no-any-return]
        joined = up if self.kind == "concat" else up + lift
        return self.unit(torch.cat([joined, lift], dim=1))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"kind={self.kind}"
