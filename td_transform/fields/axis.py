"""Receptive fields along one axis: the pixels that each position of a map can see.

Two descriptions go together. The *extents* hold, per position that the map has, the first pixel and
the end of what it sees inside the image: exact at the border too. The *progressions* say where
fields lie on an image without borders, which is what Eq. 1 of the paper counts: position
``q * period + phase`` sees ``[starts[phase], ends[phase]) + q * step``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

import numpy as np
import numpy.typing as npt

from td_transform.operators.widths import Conflict
from td_transform.taps import Boundary, Taps

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[int, int]

# Neutral for minimum and maximum: a position that sees nothing (all its taps lie in the padding).
_FAR = 1 << 40


@dataclass(frozen=True, eq=False)
class Progression:
    """Fields on an image without borders; pixels, ends exclusive."""

    starts: Ints
    ends: Ints
    step: int

    @property
    def stride(self) -> Fraction:
        """Input pixels per position."""
        return Fraction(self.step, len(self.starts))

    def sizes(self) -> Ints:
        """Per phase; without the phases that see nothing."""
        sizes = self.ends - self.starts
        return sizes[sizes > 0] if (sizes <= 0).any() else sizes

    @property
    def largest(self) -> int:
        return int(self.sizes().max(initial=0))

    def read(self, taps: Taps) -> Progression:
        """The fields after an operator that reads these positions."""
        places, missing = _unbounded(taps, len(self.starts))
        period = len(self.starts)
        shift = self.step * (places // period)
        starts, ends = self.starts[places % period] + shift, self.ends[places % period] + shift
        if missing is not None:
            starts, ends = np.where(missing, _FAR, starts), np.where(missing, -_FAR, ends)
        pixels = self.step * (len(places) // len(taps.offsets) * taps.step) // period
        return _shortest(starts.min(1), ends.max(1), pixels)

    def at(self, count: int) -> tuple[Ints, Ints]:
        """Starts and ends of the first positions."""
        q, phase = np.divmod(np.arange(count), len(self.starts))
        return self.starts[phase] + q * self.step, self.ends[phase] + q * self.step


@lru_cache(maxsize=4096)
def _unbounded(taps: Taps, period: int) -> tuple[Ints, Bools | None]:
    """Positions read by the outputs of one common period: (outputs, taps), and which are none."""
    repeats = period // gcd(taps.step, period)
    return _places(taps, len(taps.offsets) * repeats)


def _places(taps: Taps, count: int) -> tuple[Ints, Bools | None]:
    """Per output position the positions it reads, ragged rows filled up, and what is filling."""
    longest = max(1, max(map(len, taps.offsets)))
    filled = [tuple(o) + (o[0] if o else 0,) * (longest - len(o)) for o in taps.offsets]
    q, phase = np.divmod(np.arange(count), len(taps.offsets))
    places = np.asarray(filled, dtype=np.int64)[phase] + (q * taps.step)[:, None]
    if all(taps.offsets):
        return places, None
    none = np.asarray([not o for o in taps.offsets])[phase]
    return places, np.broadcast_to(none[:, None], places.shape)


def _shortest(starts: Ints, ends: Ints, step: int) -> Progression:
    """The same fields with the shortest period."""
    period = len(starts)
    for length in range(1, period):
        if period % length == 0 and step * length % period == 0:
            shift = step * length // period
            if all((a[length:] - a[:-length] == shift).all() for a in (starts, ends)):
                return Progression(starts[:length], ends[:length], shift)
    return Progression(starts, ends, step)


@dataclass(frozen=True, eq=False)
class Track:
    """Fields of all positions along one axis.

    Args:
        first, end: per position of the map the first pixel that it sees and the end (exclusive).
        widest: the union over all paths from the image, on an image without borders.
        narrowest: the path with the smallest field.
    """

    first: Ints
    end: Ints
    widest: Progression
    narrowest: Progression

    @staticmethod
    def image(size: int) -> Track:
        """The image itself: every pixel sees itself."""
        pixels = np.arange(size)
        pixel = Progression(np.zeros(1, np.int64), np.ones(1, np.int64), 1)
        return Track(pixels, pixels + 1, pixel, pixel)

    def read(self, taps: Taps, count: int) -> Track:
        """The fields of `count` output positions of an operator."""
        places, missing = _bounded(taps, len(self.first), count)
        first, end = self.first[places], self.end[places]
        if missing is not None:
            first, end = np.where(missing, _FAR, first), np.where(missing, -_FAR, end)
        widest = self.widest.read(taps)
        same = self.narrowest is self.widest
        narrowest = widest if same else self.narrowest.read(taps)
        return Track(first.min(1), end.max(1), widest, narrowest)

    def extent(self) -> Interval:
        """What all positions together see."""
        return int(self.first.min()), int(self.end.max())


@lru_cache(maxsize=4096)
def _bounded(taps: Taps, size: int, count: int) -> tuple[Ints, Bools | None]:
    """Like `_places` for a map of that size, with the operator's own boundary."""
    places, missing = _places(taps, count)
    inside = _inside(places, size, taps.boundary)
    if inside is None:
        outside = (places < 0) | (places >= size)
        missing = outside if missing is None else missing | outside
        return np.clip(places, 0, size - 1), missing if missing.any() else None
    return inside, missing


def read_positions(taps: Taps, size: int, count: int, outputs: Interval) -> Ints:
    """The positions of a map of that size that some of `count` output positions read."""
    places, missing = _bounded(taps, size, count)
    rows = slice(*outputs)
    return places[rows].ravel() if missing is None else places[rows][~missing[rows]]


def _inside(places: Ints, size: int, boundary: Boundary) -> Ints | None:
    if boundary == "clamp":
        return np.clip(places, 0, size - 1)
    if boundary == "circular":
        return places % size
    if boundary == "reflect":
        period = max(2 * (size - 1), 1)
        return np.minimum(places % period, period - places % period)
    return None


def unite_tracks(tracks: Sequence[Track]) -> Track:
    """What positions see through any of several branches of one size."""
    distinct = list(dict.fromkeys(tracks))
    if len(distinct) == 1:
        return distinct[0]
    if len({len(track.first) for track in distinct}) > 1:
        raise Conflict("maps of several sizes that are joined")
    widest = distinct[0].widest
    for other in distinct[1:]:
        widest = _unite(widest, other.widest, len(other.first))
    return Track(
        np.minimum.reduce([t.first for t in distinct]),
        np.maximum.reduce([t.end for t in distinct]),
        widest,
        min((t.narrowest for t in distinct), key=lambda p: p.largest),
    )


def _unite(a: Progression, b: Progression, count: int) -> Progression:
    """The union of two progressions; a bound where their strides differ."""
    if a is b:
        return a
    if len(a.starts) == len(b.starts) and a.step == b.step:
        return Progression(np.minimum(a.starts, b.starts), np.maximum(a.ends, b.ends), a.step)
    if a.stride == b.stride:
        period = lcm(len(a.starts), len(b.starts))
        (a0, a1), (b0, b1) = a.at(period), b.at(period)
        return _shortest(np.minimum(a0, b0), np.maximum(a1, b1), int(period * a.stride))
    period = len(a.starts)
    count = max(count, period)
    (a0, a1), (b0, b1) = a.at(count), b.at(count)
    shift = np.arange(count) // period * a.step
    starts, ends = np.minimum(a0, b0) - shift, np.maximum(a1, b1) - shift
    phases = np.arange(count) % period
    return Progression(
        np.asarray([starts[phases == p].min() for p in range(period)]),
        np.asarray([ends[phases == p].max() for p in range(period)]),
        a.step,
    )


@dataclass(frozen=True, eq=False)
class AxisField:
    """What positions see along one axis.

    Args:
        track: through paths that keep the position; None where there are none.
        whole: what positions see through paths that pool the whole map (squeeze-excite).
        sighted: which positions those are; None for all. Zero padding adds some that see nothing.
    """

    track: Track | None = None
    whole: Interval | None = None
    sighted: Bools | None = None

    def read(self, taps: Taps, count: int) -> AxisField:
        """After an operator with `count` output positions; 0 where a flattened map keeps its own."""
        if self.track is None or (taps.is_point and count in (0, len(self.track.first))):
            return self
        sighted = self._sighted_after(taps, count) if self.whole else None
        return AxisField(self.track.read(taps, count), self.whole, sighted)

    def _sighted_after(self, taps: Taps, count: int) -> Bools | None:
        if self.track is None:
            return None
        places, missing = _bounded(taps, len(self.track.first), count)
        seeing = self.sighted[places] if self.sighted is not None else np.ones_like(places, bool)
        after: Bools = np.any(seeing if missing is None else seeing & ~missing, axis=1)
        return None if after.all() else after

    def pooled(self) -> AxisField:
        """All positions in one: what a global pooling sees."""
        if self.track is None:
            return self
        return AxisField(None, unite_intervals([self.track.extent(), self.whole]))

    def with_whole(self) -> AxisField:
        """Every position sees, besides, what any position sees."""
        return AxisField(self.track, self.pooled().whole)

    def interval(self, position: int, *, gates: bool) -> Interval:
        """Pixels that a position sees; (0, 0) for none."""
        if self.track is None:
            return self.whole or (0, 0)
        first, end = int(self.track.first[position]), int(self.track.end[position])
        sighted = self.sighted is None or bool(self.sighted[position])
        parts = [(first, end) if first < end else None, self.whole if gates and sighted else None]
        return unite_intervals(parts) or (0, 0)


def unite_fields(fields: Sequence[AxisField]) -> AxisField:
    distinct = list(dict.fromkeys(fields))
    if len(distinct) == 1:
        return distinct[0]
    tracks = [f.track for f in distinct if f.track is not None]
    wide = [f for f in distinct if f.whole is not None]
    masks = [f.sighted for f in wide if f.sighted is not None]
    return AxisField(
        unite_tracks(tracks) if tracks else None,
        unite_intervals([f.whole for f in wide]),
        np.logical_or.reduce(masks) if masks and len(masks) == len(wide) else None,
    )


def unite_intervals(intervals: Sequence[Interval | None]) -> Interval | None:
    found = [interval for interval in intervals if interval is not None]
    if not found:
        return None
    return min(start for start, _ in found), max(end for _, end in found)
