"""Plan: which stage every level is made from, and which had its resolution."""

from __future__ import annotations

from functools import cached_property

from td_transform.analyse import BottomUp, Stage, is_coarser
from td_transform.options import Options
from td_transform.plan.resolutions import Resolutions


class Order:
    """The levels' stages, from coarse to fine; a level's `slot` is the stage whose resolution it takes."""

    def __init__(self, bottom_up: BottomUp, options: Options, resolutions: Resolutions) -> None:
        self._resolutions = resolutions
        self._own = bottom_up.stages
        self.slots = self._own[::-1]
        self.stages = self._own if options.arrangement == "reversed" else self.slots

    @cached_property
    def opens(self) -> bool:
        """Does a level open the network that is a lift alone?"""
        coarsest = self.slots[0]
        return is_coarser(coarsest.strides, self._resolutions.strides(coarsest))

    def number(self, stage: Stage) -> int:
        """Counted from 1 at the finest; a stage is told by its entry, whatever its depth now."""
        entries = [other.entry for other in self._own]
        return entries.index(stage.entry) + 1

    def of_level(self, number: int) -> tuple[Stage, Stage]:
        """The stage and the slot of a level, by its number."""
        k = max(0, number - self.opens)
        return self.stages[k], self.slots[k]

    def has_another(self, number: int) -> bool:
        """Is there another stage than a level's, which ran at the level's resolution?"""
        stage, slot = self.of_level(number)
        return stage is not slot and self._resolutions.strides(slot) == slot.strides
