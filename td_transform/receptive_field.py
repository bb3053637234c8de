"""Receptive fields of every tensor of a network: Eq. 1 of the paper on a graph, exact at the border."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor, fx, nn

from td_transform.errors import TopDownError
from td_transform.fields.axis import AxisField
from td_transform.fields.maps import MapField
from td_transform.fields.propagate import Propagation
from td_transform.table import format_table
from td_transform.trace import Trace, trace

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from td_transform.fields.measure import MeasuredFields

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class FieldRow:
    """What the positions of one tensor see. Pairs are (vertical, horizontal), in input pixels.

    Args:
        name: the node of the graph.
        module_path: the module that it belongs to, "" for the model's own forward.
        operator: what made it.
        output_size: positions of the map; (1, 1) where the map is pooled.
        stride: pixels per position; None along an axis that is pooled to the whole image.
        size_min, size_max: the smallest and the largest field of the paths from the image, on an
            image without borders (Eq. 1). Where positions differ (after an upsampling), the bound.
        start: the first pixel of the first position's field; below zero it lies in the padding.
        covers_image: does every position see every pixel, gates included?
        gated: does a path through statistics of the whole map (squeeze-excite, group norm) join
            the spatial one? The sizes are those of the spatial path alone.
        depth: convolutions and poolings on the longest path from the image.
    """

    name: str
    module_path: str
    operator: str
    output_size: tuple[int, int]
    stride: tuple[Fraction | None, Fraction | None]
    size_min: tuple[int, int]
    size_max: tuple[int, int]
    start: tuple[int, int]
    covers_image: bool
    gated: bool
    depth: int


class ReceptiveFields(Mapping[str, FieldRow]):
    """The rows of a network by module path or node name, in the order of the graph.

    Args:
        traced: the traced network.

    Raises:
        TopDownError: an operator is unknown, or used in a way that its rule doesn't cover.
    """

    def __init__(self, traced: Trace) -> None:
        self.trace = traced
        propagation = Propagation(traced)
        self._nodes = {
            n.name: n for n in traced.graph.nodes if isinstance(propagation.fields.get(n), MapField)
        }
        self._maps: dict[str, MapField] = {
            name: propagation.fields[n] for name, n in self._nodes.items()
        }
        self._slides = {n: _slides(propagation, n) for n in propagation.fields}
        self._depths = _depths(self._slides)
        self._rows = {
            name: _row(traced, propagation, node, self._depths[node])
            for name, node in self._nodes.items()
        }

    def __getitem__(self, key: str) -> FieldRow:
        """The row of a node, or of the last node inside a module."""
        return self._rows[self._name(key)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        return "\n".join(format_table(_HEADER, [_cells(row) for row in self._rows.values()]))

    def box(self, key: str, position: tuple[int, int], *, gates: bool = False) -> Box:
        """The pixels that one position sees: (top, left, bottom, right), ends exclusive.

        Args:
            key: a module path or node name.
            position: (row, column) of the map.
            gates: with what it sees through gates and statistics of the whole map.

        Returns:
            The box, clipped to the image; (0, 0, 0, 0) for a position that sees only padding.

        Raises:
            TopDownError: the name or the position doesn't exist.
        """
        name = self._name(key)
        size = self._rows[name].output_size
        if not all(0 <= p < s for p, s in zip(position, size, strict=True)):
            raise TopDownError(
                f"position {position} of '{key}'", seen=f"a map of {size[0]}x{size[1]} positions",
                expected="a row and a column within it", remedy="count from (0, 0)",
            )  # fmt: skip
        vertical, horizontal = (
            axis.interval(p, gates=gates)
            for axis, p in zip(self._maps[name].axes, position, strict=True)
        )
        if (0, 0) in (vertical, horizontal):
            return 0, 0, 0, 0
        return vertical[0], horizontal[0], vertical[1], horizontal[1]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows; pairs become two columns, sizes in input pixels."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self._records[0]))
            writer.writeheader()
            writer.writerows(self._records)

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a table with the columns of `to_csv`.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self._records)

    def plot(
        self, path: str | Path, *, versus: ReceptiveFields | None = None, title: str | None = None
    ) -> Path:
        """Draw the sizes over depth, this network's and its top-down counterpart's.

        Args:
            path: the picture to write, in any format that matplotlib knows by its suffix.
            versus: the other network's fields; by default those of `to_topdown(model)`, and none
                for a network that is top-down itself or can't be converted.
            title: the first line.

        Raises:
            TopDownError: the suffix is unknown.
        """
        from td_transform.fields.plot import counterpart, plot_sizes

        return plot_sizes(self, counterpart(self) if versus is None else versus, path, title=title)

    def show_on(
        self,
        image: Tensor,
        key: str,
        position: tuple[int, int],
        *,
        path: str | Path | None = None,
    ) -> Figure:
        """Draw what a position of a map sees on an image (C, H, W) with values in [0, 1].

        Args:
            image: one image of the size that was analysed.
            key: a module path or node name.
            position: (row, column) of the map.
            path: also write the picture there.
        """
        from td_transform.fields.plot import show_box

        return show_box(self, image, key, position, path)

    def trace_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node's output in the trace, with a batch of two."""
        shape: tuple[int, ...] = self.trace.values[self._nodes[name]].shape
        return shape

    def main_path(self) -> list[FieldRow]:
        """The rows on the longest path from the image, the one with most convolutions."""
        heights: dict[fx.Node, int] = {}
        for node in reversed(self._depths):
            below = (heights[u] + self._slides[u] for u in node.users if u in heights)
            heights[node] = max(below, default=0)
        longest = max(self._depths.values())
        nodes = self._nodes.items()
        return [self._rows[name] for name, n in nodes if self._depths[n] + heights[n] == longest]

    def _name(self, key: str) -> str:
        if key in self._rows:
            return key
        if key in self._by_path:
            return self._by_path[key]
        near = [path for path in self._by_path if path.startswith(key.split(".")[0])]
        raise TopDownError(
            f"name '{key}'", seen=f"a network of {len(self._rows)} nodes without it",
            expected="a module path or a node name" + (f" such as '{near[0]}'" if near else ""),
            remedy="print the receptive fields to see all names",
        )  # fmt: skip

    @cached_property
    def _by_path(self) -> dict[str, str]:
        """Per module path the last node inside it."""
        found: dict[str, str] = {}
        for name, node in self._nodes.items():
            for path in _paths(node):
                found[path] = name
        return found

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        return [_record(row) for row in self._rows.values()]


@overload
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, int, int] | None = None,
    *,
    method: Literal["analytic"] = "analytic",
) -> ReceptiveFields: ...
@overload
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, int, int] | None = None,
    *,
    method: Literal["gradient"],
    images: Tensor | None = None,
    nodes: Sequence[str] | None = None,
    samples: int = 16,
) -> MeasuredFields: ...
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, int, int] | None = None,
    *,
    method: Literal["analytic", "gradient"] = "analytic",
    images: Tensor | None = None,
    nodes: Sequence[str] | None = None,
    samples: int = 16,
) -> ReceptiveFields | MeasuredFields:
    """Receptive fields of every tensor of a network, bottom-up or top-down (paper, 3.2, Eq. 1).

    Args:
        model: a network whose first input is an image (N, C, H, W); it is only read.
        input_size: (C, H, W) in pixels; by default as for `to_topdown`.
        method: `analytic` counts what can be reached, from the graph alone; `gradient` measures
            what the centre of a map depends on, and how much, from gradients in eval mode.
        images: for `gradient`: images (N, C, H, W) in [0, 1]; by default random ones.
        nodes: for `gradient`: the module paths or node names to measure; by default all.
        samples: for `gradient`: how many random images.

    Returns:
        A mapping from names to rows that prints as a table.

    Raises:
        UnknownOperatorError: the registry doesn't know an operator.
        TopDownError: the model can't be traced, or an operator's use has no rule.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
        >>> fields = receptive_field(net, (3, 32, 32))
        >>> fields["2"].size_max, fields.box("2", (1, 0))
        ((8, 8), (1, 0, 9, 7))
    """
    size = input_size or _own_size(model)
    fields = ReceptiveFields(trace(model, size, any_output=True))
    if method == "analytic":
        return fields
    from td_transform.fields.measure import measure_fields

    return measure_fields(fields, images=images, nodes=nodes, samples=samples)


def _own_size(model: nn.Module) -> tuple[int, int, int] | None:
    """A top-down network's plan holds the size that it was made for."""
    size: tuple[int, int, int] | None = getattr(getattr(model, "plan", None), "input_size", None)
    return size


def _slides(propagation: Propagation, node: fx.Node) -> bool:
    """Is it a convolution or a pooling?"""
    operator = propagation.operators.get(node)
    return operator is not None and operator.window is not None and operator.name != "getitem"


def _depths(slides: Mapping[fx.Node, bool]) -> dict[fx.Node, int]:
    depths: dict[fx.Node, int] = {}
    for node, counts in slides.items():
        depths[node] = counts + max((depths.get(n, 0) for n in node.all_input_nodes), default=0)
    return depths


def _row(traced: Trace, propagation: Propagation, node: fx.Node, depth: int) -> FieldRow:
    field: MapField = propagation.fields[node]
    operator = propagation.operators.get(node)
    vertical, horizontal = field.axes
    counts = tuple(1 if axis.track is None else len(axis.track.first) for axis in field.axes)
    facts = [_axis_facts(axis) for axis in field.axes]
    sizes = traced.input_size[1:]
    return FieldRow(
        name=node.name,
        module_path=next(iter(reversed(_paths(node))), ""),
        operator=operator.name if operator else "image",
        output_size=(counts[0], counts[1]),
        stride=(facts[0].stride, facts[1].stride),
        size_min=(facts[0].smallest, facts[1].smallest),
        size_max=(facts[0].largest, facts[1].largest),
        start=(facts[0].start, facts[1].start),
        covers_image=_covers(vertical, sizes[0]) and _covers(horizontal, sizes[1]),
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


def _covers(axis: AxisField, size: int) -> bool:
    if axis.whole == (0, size):
        return True
    return axis.track is not None and bool(
        (axis.track.first == 0).all() and (axis.track.end == size).all()
    )


def _paths(node: fx.Node) -> list[str]:
    """The modules around a node, from the outermost to its own."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    if node.op == "call_module" and str(node.target) not in paths:
        paths.append(str(node.target))
    return paths


_HEADER = [
    "node", "operator", "size", "stride", "field min..max", "start", "whole image",
]  # fmt: skip


def _cells(row: FieldRow) -> list[str]:
    smallest, largest = _pair(row.size_min), _pair(row.size_max)
    whole = "yes" if row.covers_image else ""
    return [
        row.name,
        row.operator,
        f"{row.output_size[0]}x{row.output_size[1]}",
        _pair(["" if s is None else str(s) for s in row.stride]),
        largest if smallest == largest else f"{smallest}..{largest}",
        _pair(row.start),
        whole + (" (gate)" if row.gated else ""),
    ]


def _pair(values: Sequence[Any]) -> str:
    """One value where both axes agree."""
    first, second = values
    return str(first) if first == second else f"{first}x{second}"


def _record(row: FieldRow) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if isinstance(value, tuple):
            for axis, entry in zip(("vertical", "horizontal"), value, strict=True):
                record[f"{name}_{axis}"] = float(entry) if isinstance(entry, Fraction) else entry
        else:
            record[name] = value
    return record
