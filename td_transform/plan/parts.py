"""The parts of a plan: immutable values of plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from td_transform.layers.axes import STANDARD, MapAxes

Where = Literal["before", "after", "instead"]


@dataclass(frozen=True)
class UpsamplePlan:
    """An upsampling, by a factor along each axis; `channels` matter for a transposed convolution
    alone."""

    name: str
    factors: tuple[int, ...]
    channels: int
    parameters: int = 0


# What becomes of a node that changed the resolution, or could


@dataclass(frozen=True)
class Keep:
    """The node stays as it is."""


@dataclass(frozen=True)
class Drop:
    """The node goes.

    Args:
        takes: the bottom-up tensor that stands for its result; its own input by default.
    """

    takes: str | None = None


@dataclass(frozen=True)
class SizePreserving:
    """The node runs at stride 1, with an output as large as its input."""


@dataclass(frozen=True)
class Upsampled:
    """An upsampling before the node, after it, or in its place; what stays runs at stride 1.

    Args:
        where: relative to the node.
        upsample: the upsampling.
        takes: with `instead`: the bottom-up tensor that is upsampled; its own input by default.
    """

    where: Where
    upsample: UpsamplePlan
    takes: str | None = None


@dataclass(frozen=True)
class PoolTo:
    """The map is pooled to a size, before the node or in its place; None leaves an axis as it is."""

    where: Where
    size: tuple[int | None, ...]


Change = Keep | Drop | SizePreserving | Upsampled | PoolTo


@dataclass(frozen=True)
class LayerPlan:
    """A bottom-up layer with new widths.

    Args:
        name: its path in the emitted module.
        source: its path in the bottom-up model.
        operator: its class.
        sizes: its widths, by what they mean (`in`, `out`, `channels`).
        kernel: another kernel size than the source's.
        parameters: how many it will have.
        inherits: do all shapes agree with the source's?
    """

    name: str
    source: str
    operator: str
    sizes: tuple[tuple[str, int], ...] = ()
    kernel: tuple[int, ...] | None = None
    parameters: int = 0
    inherits: bool = False


@dataclass(frozen=True)
class TensorPlan:
    """A parameter or buffer that the forward reads itself, with new widths.

    Args:
        name: its path in the emitted module.
        source: its path in the bottom-up model.
        shape: its shape.
        parameters: how many of its numbers train.
        inherits: is it a parameter, and its shape the source's?
    """

    name: str
    source: str
    shape: tuple[int, ...]
    parameters: int = 0
    inherits: bool = False


@dataclass(frozen=True)
class NodePlan:
    """What becomes of one node of the bottom-up graph.

    Args:
        node: its name in the bottom-up graph.
        change: of what it does to the resolution.
        layer: for a module: the layer that is called.
        literals: integers in its arguments that are widths, by place.
        tensor: for a parameter or buffer that the forward reads itself: what stands for it.
        asks: for a node that asks for the size of an earlier tensor: the dimension of the tensor
            that flows in, as (N, C, H, W), that has it.
    """

    node: str
    change: Change = Keep()
    layer: LayerPlan | None = None
    literals: tuple[tuple[tuple[str | int, ...], int], ...] = ()
    tensor: TensorPlan | None = None
    asks: int | None = None

    @property
    def size_preserving(self) -> bool:
        """Does what stays of it run at stride 1?"""
        return isinstance(self.change, (SizePreserving, Upsampled))

    @property
    def upsample(self) -> UpsamplePlan | None:
        return self.change.upsample if isinstance(self.change, Upsampled) else None


@dataclass(frozen=True)
class SegmentPlan:
    """A copy of a stretch of the bottom-up graph, from the tensor `start` to the tensor `end`.

    Args:
        prefix: the path that its layers lie under.
        start, end: bottom-up nodes.
        nodes: what becomes of each node, in graph order.
        width_in, width_out: channels.
        axes_in, axes_out: how the bottom-up tensors are laid out.
        new_tokens: do no class tokens of its width come from the copy before? Then the mean of the
            map stands for each.
    """

    prefix: str
    start: str
    end: str
    nodes: tuple[NodePlan, ...]
    width_in: int
    width_out: int
    axes_in: MapAxes = STANDARD
    axes_out: MapAxes = STANDARD
    new_tokens: bool = False

    @property
    def layers(self) -> list[LayerPlan]:
        return [n.layer for n in self.nodes if n.layer is not None]

    @property
    def held(self) -> list[LayerPlan | TensorPlan]:
        """Its layers, and the parameters and buffers that it reads itself."""
        return [part for n in self.nodes for part in (n.layer, n.tensor) if part is not None]


@dataclass(frozen=True)
class UnitPlan:
    """A new convolution unit: a lift, an adapter, or what follows a merge.

    Args:
        name: its path in the emitted module.
        width_in, width_out: channels.
        kernel: along each axis.
        conv, norm, activation: the bottom-up nodes whose kind they take; None where it has none.
        pre_activation: norm-act-conv instead of conv-norm-act.
        norm_channels_last: does the norm work on channels-last tensors?
        norm_last: activation-norm instead of norm-activation.
        parameters: how many it will have.
    """

    name: str
    width_in: int
    width_out: int
    kernel: tuple[int, ...]
    conv: str
    norm: str | None
    activation: str | None
    pre_activation: bool = False
    norm_channels_last: bool = False
    norm_last: bool = False
    parameters: int = 0


@dataclass(frozen=True)
class OwnPlan:
    """A lift or a merge of the user's own.

    Args:
        name: its path in the emitted module.
        made_by: the function that makes it, as ``package.module:name``.
        instead: the unit that would stand there, or behind the merge that would.
        parameters: how many it will have.
    """

    name: str
    made_by: str
    instead: UnitPlan
    parameters: int = 0

    @property
    def width_in(self) -> int:
        return self.instead.width_in

    @property
    def width_out(self) -> int:
        return self.instead.width_out


Part = UnitPlan | OwnPlan | UpsamplePlan | SegmentPlan


@dataclass(frozen=True)
class LevelPlan:
    """One level of the top-down network.

    Args:
        path: its place in the emitted module.
        strides: input pixels per step of its maps, along each axis.
        made_from: the bottom-up stage it is made from, counted from 1 at the finest; None for the
            extra coarsest lift.
        lift: what reads the image at this stride; None for a level that is skipped.
        transition: from the coarser level to this one, the upsampling included.
        merge: the unit after the merge; None at the first level and at one that is skipped.
        stage: the units and blocks after the merge, with adapters where one needs another width.
    """

    path: str
    strides: tuple[int, ...]
    made_from: int | None
    lift: UnitPlan | OwnPlan | None
    transition: tuple[Part, ...] = ()
    merge: UnitPlan | OwnPlan | None = None
    stage: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of it, in the order in which it runs."""
        first = (self.lift,) if self.lift is not None else ()
        middle = (self.merge,) if self.merge is not None else ()
        return (*first, *self.transition, *middle, *self.stage)

    @property
    def stride(self) -> int:
        """Input pixels per step along the coarsest axis."""
        return max(self.strides)

    @property
    def width(self) -> int:
        """Channels of its output."""
        parts = (part for part in reversed(self.parts) if not isinstance(part, UpsamplePlan))
        return next(parts).width_out

    @property
    def parameters(self) -> int:
        """Of all its parts; a layer that is called twice counts once."""
        return parameters(self.parts)


def parameters(parts: Sequence[Part]) -> int:
    """Layers that are called twice count once, with the parameters of theirs that are read besides."""
    counts = dict(_named_counts(parts))
    return sum(count for name, count in counts.items() if name.rpartition(".")[0] not in counts)


def _named_counts(parts: Sequence[Part]) -> Iterator[tuple[str, int]]:
    for part in parts:
        if not isinstance(part, SegmentPlan):
            yield part.name, part.parameters
            continue
        for node in part.nodes:
            if node.layer is not None:
                yield node.layer.name, node.layer.parameters
            if node.upsample is not None:
                yield node.upsample.name, node.upsample.parameters
            if node.tensor is not None:
                yield node.tensor.name, node.tensor.parameters
