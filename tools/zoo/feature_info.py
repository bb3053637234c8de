"""An outside opinion on stages: what timm's `feature_info` says of every stage's stride and width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any

from torch import nn

from td_transform.analyse import BottomUp, Stage

# stride and width of a feature
Feature = tuple[int, int]


# where timm counts otherwise than the design, and why
EXPLAINED: Mapping[str, str] = {
    "mobilenetv5*": "its head fuses the maps at strides 16 and 32, so the trunk ends at 16",
    "vgg*": "the last entry is the pooled map that the fully connected layers read",
    "xception[467]*": "the list is of maps inside the blocks that downsample, before they do",
}


def explanation(name: str) -> str:
    """Why a model's list differs; empty where nothing is known of it."""
    return next((why for pattern, why in EXPLAINED.items() if fnmatch(name, pattern)), "")


def features(model: nn.Module) -> list[Feature]:
    """What a model says of its features, from fine to coarse; nothing where it says nothing.

    An entry that names no module is of no map.
    """
    info: Any = getattr(model, "feature_info", None) or []
    entries: Iterable[Any] = getattr(info, "info", info)
    return [
        (entry["reduction"], entry["num_chs"]) if isinstance(entry, dict) else tuple(entry[:2])
        for entry in entries
        if not isinstance(entry, dict) or entry.get("module") != ""
    ]


def difference(found: BottomUp, said: list[Feature]) -> str:
    """How the stages that were found differ from a model's own list; empty where they agree.

    A list may begin with maps of the stem: with every unit of a stem that is a chain, with one of
    a stem that branches. Its width is that of any map of the stage: timm lists what a feature
    pyramid should read, for instance the map before a last convolution. A list of one resolution is
    of the blocks of one stage (a transformer's), and says nothing of the others.
    """
    rest = _by_stride(said[_in_stem(found, said) :])
    is_partial = len(_by_stride(said)) == 1
    stages = [s for s in found.stages if s.stride in rest] if is_partial else found.stages
    if list(rest) != [stage.stride for stage in stages]:
        strides = [stage.stride for stage in found.stages]
        return f"strides {strides}, not {[stride for stride, _ in said]}"
    for stage, (stride, widths) in zip(stages, rest.items(), strict=True):
        if not widths & _widths(found, stage):
            return f"widths {sorted(_widths(found, stage))} at stride {stride}, not {widths}"
    return ""


def _by_stride(said: Iterable[Feature]) -> dict[int, set[int]]:
    """What is said of each resolution: a stage is the part of the trunk at one."""
    widths: dict[int, set[int]] = {}
    for stride, width in said:
        widths.setdefault(stride, set()).add(width)
    return widths


def _in_stem(found: BottomUp, said: list[Feature]) -> int:
    """How many entries are maps of the stem."""
    if found.stem is None:
        return 0
    trunk, stem = found.trunk, {*found.stem.nodes, found.stem.start}
    maps = [node for node in found.stem.nodes if trunk.stride(node) is not None]
    known = {(int(max(trunk.stride(node) or ())), trunk.width(node)) for node in maps}
    extra = len(_by_stride(said)) - len(found.stages)
    is_chain = all(sum(s in stem for s in node.all_input_nodes) == 1 for node in maps)
    count = 0
    while count < (extra if is_chain else min(extra, 1)) and said[count] in known:
        count += 1
    return count


def _widths(found: BottomUp, stage: Stage) -> set[int]:
    """The widths of a stage's maps, the pooled one that it begins with among them."""
    ends = [*stage.pools, *stage.segments]
    return {stage.width, *(found.trunk.width(segment.end) for segment in ends)}
