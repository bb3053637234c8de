"""Rows of the receptive-field table: what one tensor's positions see, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from torch import fx

from td_transform.fields.axis import AxisField
from td_transform.fields.maps import MapField
from td_transform.fields.propagate import Propagation
from td_transform.layers.dimensions import DIMENSIONS, agreed, by
from td_transform.table import Table
from td_transform.trace import Trace


@dataclass(frozen=True)
class FieldRow:
    """What the positions of one tensor see: along each axis, in input pixels.

    Args:
        name: the node of the graph.
        module_path: the module that it belongs to, "" for the model's own forward.
        operator: what made it.
        output_size: positions of the map; 1 along an axis that is pooled.
        stride: pixels per position; None along an axis that is pooled to the whole image.
        size_min, size_max: the smallest and the largest field of the paths from the image, on an
            image without borders (Eq. 1). Where positions differ (after an upsampling), the bound.
        start: the first pixel of the first position's field; below zero it lies in the padding.
        covers_image: does every position see every pixel, gates included?
        measured: was what the operator reads found from its own gradients, as no rule knows it?
        adds_nothing: is it a window over maps whose positions all see the whole image already? More
            depth there sees nothing new.
        gated: does a path through statistics of the whole map (squeeze-excite, group norm) join
            the spatial one? The sizes are those of the spatial path alone.
        depth: convolutions and poolings on the longest path from the image.
    """

    name: str
    module_path: str
    operator: str
    output_size: tuple[int, ...]
    stride: tuple[Fraction | None, ...]
    size_min: tuple[int, ...]
    size_max: tuple[int, ...]
    start: tuple[int, ...]
    covers_image: bool
    measured: bool
    adds_nothing: bool
    gated: bool
    depth: int

    @property
    def is_pooled(self) -> bool:
        """Is it pooled to the whole image, along every axis?"""
        return not any(stride is not None for stride in self.stride)


def slides(propagation: Propagation, node: fx.Node) -> bool:
    """Is it a convolution over positions, or a pooling?"""
    operator = propagation.operators.get(node)
    slides = (
        operator is not None and operator.window is not None and operator.role in ("conv", "pool")
    )
    return slides and not propagation.is_along_channels(node)


def depths_of(sliding: Mapping[fx.Node, bool]) -> dict[fx.Node, int]:
    depths: dict[fx.Node, int] = {}
    for node, counts in sliding.items():
        depths[node] = counts + max((depths.get(n, 0) for n in node.all_input_nodes), default=0)
    return depths


def make_row(traced: Trace, propagation: Propagation, node: fx.Node, depth: int) -> FieldRow:
    field: MapField = propagation.fields[node]
    operator = propagation.operators.get(node)
    counts = tuple(1 if axis.track is None else len(axis.track.first) for axis in field.axes)
    facts = [_axis_facts(axis) for axis in field.axes]
    sizes = traced.input_size[1:]
    sources = [propagation.fields[n] for n in node.all_input_nodes if n in propagation.fields]
    saw_all = [isinstance(s, MapField) and _sees_all(s, sizes) for s in sources]
    reach = propagation.reaches.get(node)  # the image has none
    return FieldRow(
        name=node.name,
        module_path=next(iter(reversed(module_paths(node))), ""),
        operator=operator.name if operator else "image",
        output_size=counts,
        stride=tuple(fact.stride for fact in facts),
        size_min=tuple(fact.smallest for fact in facts),
        size_max=tuple(fact.largest for fact in facts),
        start=tuple(fact.start for fact in facts),
        covers_image=_sees_all(field, sizes),
        measured=reach is not None and reach.measured,
        adds_nothing=slides(propagation, node) and bool(saw_all) and all(saw_all),
        gated=any(axis.track is not None and axis.whole is not None for axis in field.axes),
        depth=depth,
    )


@dataclass(frozen=True)
class _AxisFacts:
    stride: Fraction | None
    smallest: int
    largest: int
    start: int


def _axis_facts(axis: AxisField) -> _AxisFacts:
    if axis.track is None:
        start, end = axis.whole or (0, 0)
        return _AxisFacts(None, end - start, end - start, start)
    widest, narrowest = axis.track.widest, axis.track.narrowest
    smallest = int(narrowest.sizes().min(initial=narrowest.largest))
    return _AxisFacts(widest.stride, smallest, widest.largest, int(widest.starts[0]))


def _sees_all(field: MapField, sizes: Sequence[int]) -> bool:
    """Does every position see the whole image?"""
    return all(_covers(axis, size) for axis, size in zip(field.axes, sizes, strict=True))


def _covers(axis: AxisField, size: int) -> bool:
    if axis.whole == (0, size) and axis.sighted is None:
        return True
    return axis.track is not None and bool(
        (axis.track.first == 0).all() and (axis.track.end == size).all()
    )


def module_paths(node: fx.Node) -> list[str]:
    """The modules around a node, from the outermost to its own."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    if node.op == "call_module" and str(node.target) not in paths:
        paths.append(str(node.target))
    return paths


_HEADER = [
    "node", "operator", "size", "stride", "field min..max", "start", "whole image",
]  # fmt: skip


def rows_table(rows: Sequence[FieldRow]) -> Table:
    """One row per tensor; one number where all axes agree."""
    return Table(_HEADER, [_cells(row) for row in rows])


def _cells(row: FieldRow) -> list[str]:
    smallest, largest = agreed(row.size_min), agreed(row.size_max)
    whole = "nothing new" if row.adds_nothing else "yes" if row.covers_image else ""
    return [
        row.name,
        f"{row.operator} (measured)" if row.measured else row.operator,
        by(row.output_size),
        agreed(["" if s is None else str(s) for s in row.stride]),
        largest if smallest == largest else f"{smallest}..{largest}",
        agreed(row.start),
        whole + (" (gate)" if row.gated else ""),
    ]


def record(row: FieldRow) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    names = DIMENSIONS[len(row.output_size)].names
    for name, value in asdict(row).items():
        if isinstance(value, tuple):
            for axis, entry in zip(names, value, strict=True):
                cells[f"{name}_{axis}"] = float(entry) if isinstance(entry, Fraction) else entry
        else:
            cells[name] = value
    return cells
