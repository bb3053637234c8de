"""Analyse: what is known of a bottom-up model, in one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import fx

from td_transform.analyse.boundaries import named_stages
from td_transform.analyse.front import behind_front
from td_transform.analyse.layout import Layout, lay_out
from td_transform.analyse.refusals import of_kept_kernels, of_other_images, uncuttable
from td_transform.analyse.stages import Stage, at_falling_resolution, find_stages
from td_transform.analyse.stem import split_stem
from td_transform.analyse.style import UnitStyle, style_of
from td_transform.analyse.trunk import Segment, Trunk, find_trunk, is_coarser
from td_transform.errors import StructureError
from td_transform.layers.dimensions import agreed, by
from td_transform.operators import TensorInfo
from td_transform.trace import Trace


@dataclass(frozen=True)
class BottomUp:
    """What the analysis found: everything that the plan is made from.

    Args:
        trunk: the chain of tensors that every path passes, with strides.
        layout: the trunk in pieces, with the image and the head.
        stem: what lifts the image into features, in a network whose stages are of blocks.
        stages: from fine to coarse.
        style: what new units are modelled on.
    """

    trunk: Trunk
    layout: Layout
    stem: Segment | None
    stages: tuple[Stage, ...]
    style: UnitStyle

    @property
    def trace(self) -> Trace:
        return self.trunk.trace

    @property
    def level_ends(self) -> tuple[str, ...]:
        """The node at which each stage ends, from fine to coarse."""
        return tuple(stage.segments[-1].end.name for stage in self.stages)


def analyse(trace: Trace, stages: Sequence[str] = ()) -> BottomUp:
    """Find stem, stages, head and the style of the units.

    Args:
        trace: the traced model.
        stages: paths of the modules that hold the stages; by default they are found.

    Raises:
        StructureError: there are fewer than two stages, or a region can't be cut.
        TopDownError: the modules that are named hold no stages.
    """
    trunk = find_trunk(behind_front(trace, resampled=True))
    layout = lay_out(trunk)
    if all(s.kind == "pool" for s in layout.segments):
        raise _no_stages(trunk, layout, ())
    if stages:
        stem, groups = named_stages(trunk, layout.segments, stages)
    else:
        stem, body = split_stem(trunk, layout.segments)
        groups = at_falling_resolution(body)
    for pools, rest in groups:
        for segment in (*pools, *rest):
            _check_strides(trunk, segment)
    found = find_stages(trunk, groups)
    if len(found) < 2:
        raise _no_stages(trunk, layout, found)
    style = style_of(trunk, layout.segments, pre_activation=layout.pre_activation)
    return BottomUp(trunk, layout, stem, found, style)


def _check_strides(trunk: Trunk, segment: Segment) -> None:
    """Learned layers of a segment run at its strides, not at ones in between; these are whole."""
    if any(stride.denominator > 1 for stride in segment.stride_out):
        raise StructureError(
            trunk.trace.place(segment.start),
            seen=f"that a map of {by(trunk.map_size(segment.end))} follows, of images of "
            f"{by(trunk.trace.input_size[1:])}",
            expected="maps at whole strides, no finer than the image",
            remedy="resize the image before the first layer that learns, not what it made",
        )
    strides = {
        stride
        for n in segment.nodes
        if trunk.is_learned(n) and (stride := trunk.stride(n)) is not None
    }
    ends = list(zip(segment.stride_in, segment.stride_out, strict=True))
    if any(
        low < s < high for stride in strides for s, (low, high) in zip(stride, ends, strict=True)
    ):
        raise uncuttable(trunk, segment.start, segment.nodes)


def _no_stages(trunk: Trunk, layout: Layout, stages: Sequence[Stage]) -> StructureError:
    seen = (
        f"one stage at stride {agreed(stages[0].strides)}" if stages else "no convolutional stage"
    )
    calls = [n for n in trunk.trace.graph.nodes if n.op.startswith("call")]
    if (error := of_other_images(trunk, calls) or of_kept_kernels(trunk)) is not None:
        return error
    strides = {n: s for n in calls if trunk.is_learned(n) and (s := trunk.stride(n))}
    learned = list(strides.values())
    head = trunk.order[layout.head_start]
    body = [stride for n, stride in strides.items() if trunk.order[n] < head]
    if stages and any(is_coarser(stride, stages[0].strides) for stride in body):
        return StructureError(
            f"model {type(trunk.trace.model).__name__}",
            seen=f"{seen}: coarser maps of learned layers come back to it before the head",
            expected="two or more stages at falling resolution",
            remedy="convert the encoder by itself, with a head behind its coarsest map",
        )
    if not stages and len(set(learned)) > 1:
        return uncuttable(trunk, next(iter(trunk.trace.graph.nodes)), calls)
    blind = next((n for n in calls if trunk.role(n) == "conv" and trunk.is_learned(n)), None)
    if blind is not None and not stages and not learned:
        return StructureError(
            trunk.trace.place(blind),
            seen=f"a tensor {tuple(trunk.call(blind).shape())} in which the image's axes are lost: it was "
            "cut up and put together in a way that no rule follows",
            expected="convolutions that read maps of the image",
            remedy="pass the path of the module that does that in leaf_modules, so that its output's "
            "shape alone counts, or use pixel_unshuffle",
        )
    lost = next((n for n in calls if _loses_map(trunk, n)), None)
    if lost is not None:
        before, after = (trunk.trace.values[n].shape for n in (trunk.call(lost).input, lost))
        return StructureError(
            trunk.trace.place(lost),
            seen=f"that a map of {by(before[2:])} becomes one of {by(after[2:])}",
            expected="a resolution that falls by a whole factor",
            remedy="use a pooling or convolution whose stride is a whole number there",
        )
    reordered = _loses_order(trunk)
    if reordered is not None:
        return StructureError(
            trunk.trace.place(reordered),
            seen=f"{seen}, and behind it tokens in an order that is no map's, which become fewer",
            expected="tokens row by row, class tokens ahead of them",
            remedy="lay the tokens out as a map where their number falls",
        )
    return StructureError(
        f"model {type(trunk.trace.model).__name__}",
        seen=f"{seen}: its features are not downsampled between learned layers",
        expected="two or more stages at falling resolution",
        remedy="convert a hierarchical CNN; transformers with one patch embedding and isotropic "
        "networks have no stages to reverse",
    )


def _loses_order(trunk: Trunk) -> fx.Node | None:
    """The last tokens before their number falls, where they are in an order that is no map's."""
    values = trunk.trace.values
    unordered = [n for n in trunk.tensors if trunk.axes(n) is None]
    counts = [
        (n, info.shape[1])
        for n in unordered
        if isinstance(info := values[n], TensorInfo) and len(info.shape) == 3 and info.shape[2] > 1
    ]
    return next((a for (a, more), (_, fewer) in pairwise(counts) if more > fewer > 1), None)


def _loses_map(trunk: Trunk, node: fx.Node) -> bool:
    """Could the step of what an opaque operator makes of a map not be read off its shape?"""
    if not trunk.is_opaque(node) or not isinstance(trunk.trace.values[node], TensorInfo):
        return False
    before = trunk.stride(trunk.call(node).input) if trunk.call(node).tensors else None
    shape = trunk.trace.values[node].shape
    return before is not None and trunk.stride(node) is None and len(shape) == trunk.count + 2
