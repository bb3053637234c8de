"""Analyse: the stages of the trunk, and how each is entered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from td_transform.analyse.blocks import belongs
from td_transform.analyse.boundaries import Group
from td_transform.analyse.segments import is_pointwise_unit
from td_transform.analyse.siblings import matched_modules
from td_transform.analyse.solve import carries_width
from td_transform.analyse.trunk import Segment, Trunk

EntryKind = Literal["chain", "prelude", "crossing", "pooled", "sibling"]


@dataclass(frozen=True)
class Stage:
    """The part of the trunk at one stride.

    Args:
        strides: input pixels per step along each axis.
        pools: the poolings that bring the map to this stride.
        entry: the first unit or block; it may downsample itself.
        rest: the units and blocks after it.
        prelude: a unit that carries the width change before the pooling (DenseNet).
        width: channels of the map that the top-down network lifts the image to: those behind what
            brings the map to this stage.
        entry_sets_width: does the entry set its own output width, whatever flows in?
        entry_kind: where the width changes, and with it where the merge goes. `chain`: in front of
            the stage (the merge comes before the entry); `prelude`: in the unit before the pooling;
            `crossing`: in the entry, which downsamples as well; `pooled`: in the entry, behind a
            pooling; `sibling`: the finest stage's entry, which takes the form of other stages'
            crossing entries. In the last three the merge comes after the entry.
        forms: for `sibling`: the entries whose form may be taken.
    """

    strides: tuple[int, ...]
    pools: tuple[Segment, ...]
    entry: Segment
    rest: tuple[Segment, ...]
    prelude: tuple[Segment, ...] = ()
    width: int = 0
    entry_sets_width: bool = False
    entry_kind: EntryKind = "chain"
    forms: tuple[Segment, ...] = ()

    @property
    def stride(self) -> int:
        """Input pixels per step along the coarsest axis."""
        return max(self.strides)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (self.entry, *self.rest)

    @property
    def has_repeated_blocks(self) -> bool:
        """Are there blocks behind the entry, which keep the resolution?"""
        return any(s.kind == "block" and not s.crosses for s in self.rest)

    @property
    def is_chain(self) -> bool:
        """Is it a plain chain of units, without blocks?"""
        return all(s.kind == "unit" for s in self.segments)


def at_falling_resolution(segments: Sequence[Segment]) -> list[Group]:
    """Cut where the resolution falls; a pooling belongs to the stage that it leads to."""
    groups: list[Group] = []
    pools: list[Segment] = []
    for segment in segments:
        if segment.kind == "pool":
            pools.append(segment)
        elif pools or segment.crosses or not groups:
            groups.append((pools, [segment]))
            pools = []
        else:
            groups[-1][1].append(segment)
    return groups


def find_stages(trunk: Trunk, groups: Sequence[Group]) -> tuple[Stage, ...]:
    """The stages of poolings with the units and blocks that they lead to."""
    preludes = [()] + [_prelude(trunk, before, *group) for (_, before), group in pairwise(groups)]
    for (_, before), prelude in zip(groups, preludes[1:], strict=False):
        del before[len(before) - len(prelude) :]
    cut = [
        Stage(tuple(map(int, body[-1].stride_out)), tuple(pools), body[0], tuple(body[1:]), prelude)
        for (pools, body), prelude in zip(groups, preludes, strict=True)
    ]
    return tuple(_entered(trunk, stage, cut) for stage in cut)


def _prelude(
    trunk: Trunk, previous: list[Segment], pools: list[Segment], body: list[Segment]
) -> tuple[Segment, ...]:
    """The last unit of the stage before, where it is there for this one, which has blocks."""
    is_chain = all(s.kind == "unit" for s in body)
    if len(previous) < 2 or not pools or previous[-1].kind != "unit" or is_chain:
        return ()
    block, unit = previous[-2:]
    leads = is_pointwise_unit(trunk, unit) and not carries_width(trunk, body[0])
    leads = block.kind == "block" and (leads or belongs(trunk, unit, pools[0], block))
    return (unit,) if leads else ()


def _entered(trunk: Trunk, stage: Stage, stages: Sequence[Stage]) -> Stage:
    """The stage with what is known of its entry."""
    entry = stage.entry
    sets_width = carries_width(trunk, entry)
    keeps = not sets_width and not entry.crosses
    forms = () if stage.is_chain or stage.pools or stage.prelude else _forms(trunk, entry, stages)
    return replace(
        stage,
        width=trunk.width(entry.start if keeps else entry.end),
        entry_sets_width=sets_width,
        entry_kind=_entry_kind(stage, sets_width, forms),
        forms=forms,
    )


def _entry_kind(stage: Stage, sets_width: bool, forms: tuple[Segment, ...]) -> EntryKind:
    if stage.is_chain:
        return "chain"
    if stage.prelude:
        return "prelude"
    if stage.entry.crosses:
        return "crossing"
    if forms:
        return "sibling"
    return "pooled" if sets_width else "chain"


def _forms(trunk: Trunk, entry: Segment, stages: Sequence[Stage]) -> tuple[Segment, ...]:
    """The crossing blocks of other stages that an entry could take the form of."""
    if entry.crosses:
        return ()
    return tuple(
        other.entry
        for other in stages
        if other.entry.kind == "block"
        and other.entry.crosses
        and matched_modules(trunk, entry, other.entry) is not None
    )
