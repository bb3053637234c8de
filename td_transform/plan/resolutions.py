"""Plan: the resolution that every level runs at."""

from __future__ import annotations

from fractions import Fraction

from td_transform.analyse import BottomUp, Stage
from td_transform.errors import StructureError, TopDownError
from td_transform.layers.dimensions import agreed
from td_transform.options import Options


class Resolutions:
    """The strides of levels; a `slot` is the bottom-up stage whose resolution a level takes."""

    def __init__(self, bottom_up: BottomUp, options: Options) -> None:
        self._bottom_up = bottom_up
        self._options = options

    def strides(self, slot: Stage) -> tuple[int, ...]:
        """The strides of the level in a slot: t = s * o / s_1 along every axis.

        o is the output stride, but s_1 along an axis that the bottom-up model has finer than that;
        beyond s_1 on the coarsest axis all of its resolutions fall alike.
        """
        wanted, finest = self._options.output_stride, self._bottom_up.stages[0].strides
        beyond = max(Fraction(1), Fraction(wanted, max(finest)))
        last = tuple(int(min(wanted, s) * beyond) for s in finest)
        scaled = tuple(s * o for s, o in zip(slot.strides, last, strict=True))
        return self.whole(slot, scaled, finest)

    def whole(self, slot: Stage, strides: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
        """One number divided by another, along each axis."""
        if any(s % d for s, d in zip(strides, by, strict=True)):
            raise self._no_ratio(slot)
        return tuple(s // d for s, d in zip(strides, by, strict=True))

    def _no_ratio(self, slot: Stage) -> StructureError:
        stages = self._bottom_up.stages
        steps = ", ".join(agreed(stage.strides) for stage in stages)
        return StructureError(
            self._bottom_up.trunk.trace.place(slot.entry.start),
            seen=f"stages at the strides {steps}, of which not each is a multiple of the one before "
            f"at output_stride={self._options.output_stride}",
            expected="maps that grow by whole factors",
            remedy=f"pass output_stride={stages[0].stride}, the bottom-up model's own, or convert a "
            "network whose strides are multiples of each other",
        )

    def check_skipped(self) -> None:
        """Only a level that a coarser one leads to can do without its lift."""
        slots = self._bottom_up.stages[::-1]
        strides, coarsest = [max(self.strides(slot)) for slot in slots], slots[0].stride
        levels = [coarsest, *strides] if strides[0] < coarsest else strides
        for stride in self._options.skip_levels:
            if stride in levels[1:]:
                continue
            is_first = stride == levels[0]
            finer = " or ".join(map(str, levels[1:]))
            raise TopDownError(
                "argument 'skip_levels'",
                seen=f"stride {stride!r}, " + ("the coarsest level's" if is_first else "no level's"),
                expected=f"strides of this network's finer levels: {finer}",
                remedy="leave it out" + (": the network starts from that level" if is_first else ""),
            )  # fmt: skip
