"""The plan: what would be built, as an immutable value of plain data that prints as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

from td_transform.errors import TopDownError
from td_transform.layers import MergeKind, PyramidKind, UpsampleKind

Arrangement = Literal["td", "uniform", "reversed"]
Weights = Literal["fresh", "inherit"]
Action = Literal["keep", "drop", "same", "up", "up-same", "same-up", "adaptive", "adaptive-before"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to turn a network upside down; the defaults are the paper's.

    Args:
        arrangement: `td` reverses the stages with their widths, `uniform` gives all the median
            width, `reversed` keeps widths and depths in bottom-up order (paper, 3.3).
        output_stride: input pixels per step of the last stage.
        merge: how upsampled features and lift are joined (paper, Fig. 3).
        upsample: how a map is brought to the next resolution (paper, 3.1).
        pyramid: how the image is blurred and downsampled.
        weights: `inherit` keeps the bottom-up weights of layers whose shapes agree.

    Raises:
        TopDownError: an option has a value that is not offered.
    """

    arrangement: Arrangement = "td"
    output_stride: int = 1
    merge: MergeKind = "add-concat"
    upsample: UpsampleKind = "nearest"
    pyramid: PyramidKind = "gaussian"
    weights: Weights = "fresh"

    def __post_init__(self) -> None:
        offered = {
            "arrangement": Arrangement, "merge": MergeKind, "upsample": UpsampleKind,
            "pyramid": PyramidKind, "weights": Weights,
        }  # fmt: skip
        for name, literal in offered.items():
            value, choices = getattr(self, name), get_args(literal)
            if value not in choices:
                raise TopDownError(
                    f"argument '{name}'", seen=repr(value), expected=" or ".join(map(repr, choices)),
                    remedy=f"pass {name}={choices[0]!r}, the default",
                )  # fmt: skip
        if not isinstance(self.output_stride, int) or self.output_stride < 1:
            raise TopDownError(
                "argument 'output_stride'", seen=repr(self.output_stride),
                expected="a positive integer", remedy="pass output_stride=1, the default",
            )  # fmt: skip


@dataclass(frozen=True)
class LayerPlan:
    """A bottom-up layer with new widths.

    Args:
        name: its path in the emitted module.
        source: its path in the bottom-up model.
        operator: its class.
        sizes: its widths, by what they mean (`in`, `out`, `channels`).
        kernel: another kernel size than the source's.
        same: does it run at stride 1 with size-preserving padding?
        parameters: how many it will have.
        inherits: do all shapes agree with the source's?
    """

    name: str
    source: str
    operator: str
    sizes: tuple[tuple[str, int], ...] = ()
    kernel: tuple[int, int] | None = None
    same: bool = False
    parameters: int = 0
    inherits: bool = False


@dataclass(frozen=True)
class UpsamplePlan:
    """An upsampling; `channels` matter for a transposed convolution alone."""

    name: str
    factor: int
    channels: int
    parameters: int = 0


@dataclass(frozen=True)
class NodePlan:
    """What becomes of one node of the bottom-up graph.

    Args:
        node: its name in the bottom-up graph.
        action: `keep` it, `drop` it, run it at stride 1 (`same`), replace it by an upsampling
            (`up`) or put one before or after it, pool to the bottom-up map's size.
        layer: for a module: the layer that is called.
        upsample: the upsampling, where there is one.
        literals: integers in its arguments that are widths, by place.
        shape: for a parameter or buffer used directly: its shape.
        parameters: how many of them train.
        map_size: (H, W) to pool to.
    """

    node: str
    action: Action = "keep"
    layer: LayerPlan | None = None
    upsample: UpsamplePlan | None = None
    literals: tuple[tuple[tuple[str | int, ...], int], ...] = ()
    shape: tuple[int, ...] | None = None
    parameters: int = 0
    map_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class SegmentPlan:
    """A copy of a stretch of the bottom-up graph, from the tensor `start` to the tensor `end`."""

    prefix: str
    start: str
    end: str
    nodes: tuple[NodePlan, ...]
    width_in: int
    width_out: int

    @property
    def layers(self) -> list[LayerPlan]:
        return [n.layer for n in self.nodes if n.layer is not None and n.action != "drop"]


@dataclass(frozen=True)
class UnitPlan:
    """A new convolution unit: a lift, an adapter, or what follows a merge.

    Args:
        name: its path in the emitted module.
        width_in, width_out: channels.
        kernel: (vertical, horizontal).
        conv, norm, activation: the bottom-up nodes whose kind they take; None where it has none.
        pre_activation: norm-act-conv instead of conv-norm-act.
        parameters: how many it will have.
    """

    name: str
    width_in: int
    width_out: int
    kernel: tuple[int, int]
    conv: str
    norm: str | None
    activation: str | None
    pre_activation: bool = False
    parameters: int = 0


Part = UnitPlan | UpsamplePlan | SegmentPlan


@dataclass(frozen=True)
class LevelPlan:
    """One level of the top-down network.

    Args:
        stride: input pixels per step of its maps.
        made_from: the bottom-up stage it is made from, counted from 1 at the finest; None for the
            extra coarsest lift.
        lift: the unit that reads the image at this stride.
        transition: from the coarser level to this one, the upsampling included.
        merge: the unit after the merge; None at the first level.
        stage: the units and blocks after the merge.
    """

    stride: int
    made_from: int | None
    lift: UnitPlan
    transition: tuple[Part, ...] = ()
    merge: UnitPlan | None = None
    stage: tuple[SegmentPlan, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        middle = (self.merge,) if self.merge is not None else ()
        return (self.lift, *self.transition, *middle, *self.stage)

    @property
    def width(self) -> int:
        """Channels of its output."""
        last = self.stage[-1] if self.stage else self.merge or self.lift
        return last.width_out

    @property
    def parameters(self) -> int:
        return _parameters(self.parts)


@dataclass(frozen=True)
class Plan:
    """What `to_topdown` builds; prints as a table.

    Args:
        model: the bottom-up model's class.
        input_size: (C, H, W).
        options: the options it was made with.
        levels: from coarse to fine.
        head: from the last map to the logits.
        warnings: what the user should know before training.
    """

    model: str
    input_size: tuple[int, int, int]
    options: Options
    levels: tuple[LevelPlan, ...]
    head: SegmentPlan
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Trainable parameters of the top-down network."""
        return _parameters([part for level in self.levels for part in level.parts] + [self.head])

    @property
    def layers(self) -> list[LayerPlan]:
        """The bottom-up layers that the top-down network has copies of."""
        segments = [p for lv in self.levels for p in lv.parts if isinstance(p, SegmentPlan)]
        return [layer for segment in (*segments, self.head) for layer in segment.layers]

    @property
    def inherited(self) -> tuple[str, ...]:
        """The layers that keep their bottom-up weights, by their path in the emitted module."""
        if self.options.weights == "fresh":
            return ()
        return tuple(dict.fromkeys(layer.name for layer in self.layers if layer.inherits))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that `to_json` wrote."""
        return _from_data(Plan, json.loads(text))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        from td_transform.table import plan_table

        return plan_table(self)


def _parameters(parts: list[Part] | tuple[Part, ...]) -> int:
    """Layers that are called twice count once."""
    counts: dict[str, int] = {}
    for name, count in _named_counts(parts):
        counts[name] = count
    return sum(counts.values())


def _named_counts(parts: list[Part] | tuple[Part, ...]) -> Iterator[tuple[str, int]]:
    for part in parts:
        if not isinstance(part, SegmentPlan):
            yield part.name, part.parameters
            continue
        for node in part.nodes:
            if node.action == "drop":
                continue
            if node.layer is not None:
                yield node.layer.name, node.layer.parameters
            if node.upsample is not None:
                yield node.upsample.name, node.upsample.parameters
            if node.shape is not None:
                yield f"{part.prefix}.{node.node}", node.parameters


def _from_data(kind: Any, data: Any) -> Any:
    """Dataclasses from what `json` read; lists become tuples."""
    if isinstance(data, list):
        return tuple(_from_data(None, item) for item in data)
    if not isinstance(data, dict):
        return data
    kind = kind or _kind_of(data)
    nested = {"options": Options}
    return kind(**{key: _from_data(nested.get(key), value) for key, value in data.items()})


def _kind_of(data: dict[str, Any]) -> Any:
    """The dataclass with exactly these fields."""
    kinds = (LayerPlan, UpsamplePlan, NodePlan, SegmentPlan, UnitPlan, LevelPlan)
    return next(k for k in kinds if is_dataclass(k) and {f.name for f in fields(k)} == set(data))
