"""Where the channels and the positions of a map stand among a tensor's dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MapAxes:
    """A layout of maps: (N, C, H, W), or as many axes as there are, unless it says otherwise.

    Args:
        channels: the dimension of the channels.
        positions: the dimensions of the positions.
        flattened: do all axes stand in a single dimension (tokens)?
    """

    channels: int = 1
    positions: tuple[int, ...] = (2, 3)
    flattened: bool = False

    @property
    def is_standard(self) -> bool:
        return self.channels == 1 and not self.flattened


STANDARD = MapAxes()


def laid_out(x: Tensor, channels: int, positions: tuple[int, ...]) -> Tensor:
    """A map (N, C, H, W) as `MapAxes` of these values has it."""
    if len(positions) == 1:
        x = x.flatten(2)
    return x if channels == 1 else x.movedim(1, -1)


def standard(x: Tensor, like: Tensor, channels: int, positions: tuple[int, ...]) -> Tensor:
    """A map as (N, C, H, W) again; `like` is one of its size (N, any, H, W)."""
    x = x if channels == 1 else x.movedim(-1, 1)
    return x.unflatten(2, like.shape[2:]) if len(positions) == 1 else x
