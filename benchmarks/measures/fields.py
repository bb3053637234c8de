"""Receptive fields of the paper's example (3.2, Fig. 2) and of its four networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.subjects.arrangements import PAIR
from benchmarks.subjects.networks import build, made_for
from td_transform import receptive_field

# What the paper says, in pixels, with sigma = 2/3.
EXAMPLE = {
    "BU, first convolution": 3,
    "BU, last convolution": 18,
    "TD, coarsest input": 10,
    "TD, first convolution": 18,
    "last merge, fine": 3,
    "last merge, coarse": 22,
}
_SIDE = 64
_NETWORKS = ("lenet-fc", "nin-light", "nin", "resnet32")


class ExampleBottomUp(nn.Module):
    """The left of Fig. 2: three 3x3 convolutions with a pooling between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) to (N, 1, H / 4, W / 4)."""
        x = F.max_pool2d(self.first(image), 2)
        return self.last(F.max_pool2d(self.second(x), 2))  # type: ignore[no-any-return]


class ExampleTopDown(nn.Module):
    """The right of Fig. 2 up to its last merge, without the merges' own 3x3 convolutions.

    A Gaussian window of 6 sigma with sigma = 2/3 has four taps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_middle, self.to_coarse = (nn.Conv2d(1, 1, 4, 2, padding=1) for _ in range(2))
        self.first, self.second, self.fine = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) to the same size, H and W divisible by 4."""
        middle = self.to_middle(image)
        x = F.interpolate(self.first(self.to_coarse(middle)), scale_factor=2)
        x = F.interpolate(self.second(x + middle), scale_factor=2)
        return x + self.fine(image)  # type: ignore[no-any-return]


@cache
def example_fields() -> dict[str, int]:
    """The figures of `EXAMPLE`, computed by Eq. 1 on both graphs.

    Example:
        >>> example_fields() == EXAMPLE
        True
    """
    bu, td = (
        receptive_field(net, (1, _SIDE, _SIDE)) for net in (ExampleBottomUp(), ExampleTopDown())
    )
    rows = (
        bu["first"], bu["last"], td["to_coarse"], td["first"], td["fine"], td["second"],
    )  # fmt: skip
    return {name: row.size_max[0] for name, row in zip(EXAMPLE, rows, strict=True)}


@dataclass(frozen=True)
class Ends:
    """A BU network and the TD network made from it.

    Args:
        td_first: pixels seen after TD's first convolution.
        bu_last: pixels seen after BU's last convolution.
        td_map, bu_map, image: rows of their last feature maps, and of the image.
    """

    td_first: int
    bu_last: int
    td_map: int
    bu_map: int
    image: int


@cache
def network_ends() -> dict[str, Ends]:
    """The paper's four networks, compiled here."""
    found = {}
    for name in _NETWORKS:
        size = made_for(name)
        networks = (
            build(name, arrangement=arrangement, size=size, classes=10).network
            for arrangement in PAIR
        )
        bu_rows, td_rows = (
            [row for row in receptive_field(net, size).values() if row.operator == "Conv2d"]
            for net in networks
        )
        found[name] = Ends(
            td_first=td_rows[0].size_max[0],
            bu_last=bu_rows[-1].size_max[0],
            td_map=td_rows[-1].output_size[0],
            bu_map=bu_rows[-1].output_size[0],
            image=size[1],
        )
    return found
