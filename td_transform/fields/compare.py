"""The paper's argument as a table: where in depth each network reaches which field (3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from td_transform.fields.network_fields import ReceptiveFields
from td_transform.fields.receptive_field import receptive_field
from td_transform.fields.rows import FieldRow
from td_transform.table import Table

_SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Reached:
    """The first tensor on the longest path whose field is that large.

    Args:
        pixels: the size that was asked for, input pixels.
        node: its name; "" where no tensor before the head reaches it.
        depth: convolutions and poolings up to there, as a share of the whole path.
    """

    pixels: int
    node: str
    depth: float


@dataclass(frozen=True)
class Range:
    """Smallest and largest field (input pixels) at a share of the depth."""

    depth: float
    smallest: int
    largest: int


@dataclass(frozen=True)
class Comparison:
    """Two networks side by side; prints as two tables.

    Args:
        bottom_up, top_down: where each reaches an eighth, a quarter, ... of the image's side.
        bottom_up_ranges, top_down_ranges: which fields meet at which depth.
    """

    bottom_up: tuple[Reached, ...]
    top_down: tuple[Reached, ...]
    bottom_up_ranges: tuple[Range, ...]
    top_down_ranges: tuple[Range, ...]

    @property
    def tables(self) -> tuple[Table, Table]:
        """Where in depth a field is reached first, and which fields meet at which depth."""
        reached = [
            [f"{b.pixels} pixels", _place(b), _place(t)]
            for b, t in zip(self.bottom_up, self.top_down, strict=True)
        ]
        ranges = [
            [f"{b.depth:.0%}", f"{b.smallest}..{b.largest}", f"{t.smallest}..{t.largest}"]
            for b, t in zip(self.bottom_up_ranges, self.top_down_ranges, strict=True)
        ]
        return (
            Table(["field of", "bottom-up: first at depth", "top-down: first at depth"], reached),
            Table(["depth", "bottom-up field", "top-down field"], ranges),
        )

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))


def compare(
    bu: nn.Module | ReceptiveFields,
    td: nn.Module | ReceptiveFields,
    *,
    input_size: tuple[int, ...] | None = None,
) -> Comparison:
    """Where in depth a bottom-up and a top-down network reach which receptive field (paper, 3.2).

    Depth counts convolutions and poolings along the longest path, up to the global pooling.

    Args:
        bu, td: the networks, or what `receptive_field` said of them.
        input_size: (C, H, W); by default the one that the top-down network was made for.

    Raises:
        TopDownError: a network can't be analysed.

    Example:
        >>> from td_transform import to_topdown
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> print(compare(bu, to_topdown(bu, input_size=(1, 28, 28))).top_down[0].pixels)
        4
    """
    if not isinstance(td, ReceptiveFields):
        td = receptive_field(td, input_size)
    if not isinstance(bu, ReceptiveFields):
        bu = receptive_field(bu, input_size or td.trace.model_input_size)
    side = max(td.trace.input_size[1:])
    paths = [[row for row in f.main_path() if not row.is_pooled] for f in (bu, td)]
    reached = [_reached(path, side) for path in paths]
    ranges = [_ranges(path) for path in paths]
    return Comparison(reached[0], reached[1], ranges[0], ranges[1])


def _reached(path: Sequence[FieldRow], side: int) -> tuple[Reached, ...]:
    whole = max(1, path[-1].depth)
    found = []
    for share in _SHARES:
        pixels = round(side * share)
        first = next((row for row in path if min(row.size_max) >= pixels), None)
        found.append(
            Reached(pixels, first.name if first else "", first.depth / whole if first else 1.0)
        )
    return tuple(found)


def _ranges(path: Sequence[FieldRow]) -> tuple[Range, ...]:
    """At the start (the first convolution), the quarters and the end."""
    whole = max(1, path[-1].depth)
    ranges = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        depth = max(1, round(share * whole))
        row = [r for r in path if r.depth <= depth][-1]
        ranges.append(Range(share, max(row.size_min), max(row.size_max)))
    return tuple(ranges)


def _place(reached: Reached) -> str:
    return f"{reached.depth:.0%}, {reached.node}" if reached.node else "not before the head"
