"""Plan: one width for blocks that had others."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from td_transform.analyse import Segment, Stage, Trunk, solve
from td_transform.operators.widths import INFLOW


class Demand(NamedTuple):
    """At a trunk of w channels, ``const + slope * w`` has to be a multiple."""

    const: Fraction
    slope: Fraction
    multiple: int

    def admits(self, width: int) -> bool:
        return (self.const + self.slope * width) % self.multiple == 0


def uniform_width(trunk: Trunk, stages: Sequence[Stage]) -> int:
    """The median of the stages' widths, or the nearest that all blocks can split."""
    median = int(statistics.median(stage.width for stage in stages))
    return splittable_width(trunk, stages, median)


def splittable_width(trunk: Trunk, stages: Sequence[Stage], wanted: int) -> int:
    """A width; where blocks split the trunk's channels (into heads, or halves), the nearest that
    all of them can split."""
    segments = [segment for stage in stages for segment in stage.segments]
    demands = {demand for segment in segments for demand in _demands(trunk, segment)}
    nearest = sorted(range(1, 2 * wanted), key=lambda width: (abs(width - wanted), width))
    return next((w for w in nearest if all(d.admits(w) for d in demands)), wanted)


def _demands(trunk: Trunk, segment: Segment) -> Iterator[Demand]:
    """What a segment demands of the widths at its ends, whatever those inside it are."""
    inference, out = solve(trunk, segment)
    channels = {INFLOW: Fraction(1)}
    if len(out.terms) == 1 and not out.const:
        ((name, factor),) = out.terms
        channels[name] = 1 / factor
    for width, multiple in inference.widths.multiples:
        found = inference.widths.resolve(width)
        if found.terms and found.variables <= channels.keys():
            slope = sum((c * channels[name] for name, c in found.terms), Fraction(0))
            yield Demand(found.const, slope, multiple)
