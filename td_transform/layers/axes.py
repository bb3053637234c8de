"""Where the channels and the positions of a map stand among a tensor's dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MapAxes:
    """A layout of maps: (N, C, H, W), or as many axes as there are, unless it says otherwise.

    Args:
        channels: the dimension of the channels.
        positions: the dimensions of the positions.
        flattened: do all axes stand in a single dimension (tokens)?
        ahead: the tokens of their own before the positions (class tokens).
    """

    channels: int = 1
    positions: tuple[int, ...] = (2, 3)
    flattened: bool = False
    ahead: int = 0

    @property
    def is_standard(self) -> bool:
        return self.channels == 1 and not self.flattened


STANDARD = MapAxes()


def laid_out(
    x: Tensor,
    channels: int,
    positions: tuple[int, ...],
    ahead: int = 0,
    tokens: Tensor | None = None,
) -> Tensor:
    """A map (N, C, H, W) as `MapAxes` of these values has it.

    The tokens ahead are those that another tensor of this layout begins with; without one, each is
    the mean of the map.
    """
    if len(positions) == 1:
        x = x.flatten(2)
    x = x if channels == 1 else x.movedim(1, -1)
    if not ahead:
        return x
    place = positions[0]
    if tokens is None:
        first = torch.cat([x.mean(place, keepdim=True)] * ahead, dim=place)
    else:
        first = tokens.narrow(place, 0, ahead)
    return torch.cat([first, x], dim=place)


def standard(
    x: Tensor, like: Tensor, channels: int, positions: tuple[int, ...], ahead: int = 0
) -> Tensor:
    """A map as (N, C, H, W) again; `like` is one of its size (N, any, H, W)."""
    if ahead:
        x = x.narrow(positions[0], ahead, x.shape[positions[0]] - ahead)
    x = x if channels == 1 else x.movedim(-1, 1)
    return x.unflatten(2, like.shape[2:]) if len(positions) == 1 else x
