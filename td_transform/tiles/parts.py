"""Parts of maps: which positions of its input an operator needs for some positions of its output.

A part is cut so that the operator runs on it as it stands. Where the part ends inside the map, the
operator pads with its own zeros: the outputs that see those are not among the wanted ones. Where it
ends at the map's border, the padding is the network's.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from td_transform.errors import TopDownError
from td_transform.fields.axis import Interval, read_positions
from td_transform.fields.propagate import Propagation
from td_transform.layers.dimensions import per_axis
from td_transform.operators import TensorInfo
from td_transform.operators.registry import Gathering
from td_transform.taps import Taps
from td_transform.trace import Trace

# positions along each axis of a map
Part = tuple[Interval, ...]


@dataclass(frozen=True)
class Reading:
    """How one operator is run on parts.

    Args:
        node: its node.
        sources: the maps that it reads; of its other inputs it needs only the shape.
        taps: what its positions read, along each axis.
        size: of the whole map that it makes; size_in: of those that it reads.
    """

    node: fx.Node
    sources: tuple[fx.Node, ...]
    taps: tuple[Taps, ...]
    size: tuple[int, ...]
    size_in: tuple[int, ...]

    def needs(self, part: Part) -> Part:
        """The part of its inputs that it is run on for a part of its output."""
        axes = zip(self.taps, part, self.size, self.size_in, strict=True)
        return tuple(_needed(taps, wanted, count, size) for taps, wanted, count, size in axes)

    def first(self, given: Part) -> tuple[int, ...]:
        """The position of the whole map that it makes first when it is run on such a part."""
        return tuple(
            start // taps.step * len(taps.offsets)
            for taps, (start, _) in zip(self.taps, given, strict=True)
        )


def _needed(taps: Taps, wanted: Interval, count: int, size: int) -> Interval:
    places = read_positions(taps, size, count, wanted)
    # the operator's first window on the part has to be one of those on the whole map
    start = min(int(places.min(initial=size)), wanted[0] // len(taps.offsets) * taps.step)
    end = max(int(places.max(initial=0)) + 1, start + 1)
    if taps.boundary in ("reflect", "circular"):
        # torch pads no map by more than it has, before or behind
        last = (count - 1) // len(taps.offsets) * taps.step
        span = 1 + max(-min(map(min, taps.offsets)), max(map(max, taps.offsets)) + last - size + 1)
        end = min(size, max(end, start + span))
        start = max(0, min(start, end - span))
    return start // taps.step * taps.step, end


class Network:
    """A traced network as something that can run on parts of its maps."""

    def __init__(self, traced: Trace) -> None:
        self.trace = traced
        self.propagation = Propagation(traced)
        self.nodes = tuple(n for n in traced.graph.nodes if n.op != "output")

    def is_map(self, node: fx.Node) -> bool:
        """Does it have positions along every axis of the image?"""
        return self.propagation.places(node) is not None

    def is_pyramid(self, node: fx.Node) -> bool:
        """Is it a pyramid, or one of its levels?"""
        reach = self.propagation.reaches.get(node)
        of_one = bool(node.all_input_nodes) and self.propagation.reaches.get(
            node.all_input_nodes[0]
        )
        return bool(reach and reach.levels) or bool(
            of_one and of_one.levels and node.target is operator.getitem
        )

    def is_number(self, node: fx.Node) -> bool:
        """Is it a size, or what is made of sizes?"""
        return node not in self.propagation.fields and node.op.startswith("call")

    def gathering(self, node: fx.Node) -> Gathering | None:
        """How a global pooling is taken over parts of the map; None for anything else."""
        known, sources = self.propagation.operators.get(node), node.all_input_nodes
        pools = (
            len(sources) == 1
            and self.is_map(sources[0])
            and node in self.propagation.fields
            and not self.propagation.axes(node)
        )
        return known.gathers if pools and known is not None else None

    def size(self, node: fx.Node) -> tuple[int, ...]:
        """Positions of a whole map, or of each of several of one size."""
        places = self.propagation.places(node)
        info = self._info(node)
        return tuple(info.shape[place] for place in places or ())

    def whole(self, node: fx.Node) -> Part:
        """All of a map."""
        return tuple((0, side) for side in self.size(node))

    def sides(self, node: fx.Node, value: Any) -> tuple[int, ...]:
        """Positions of what a node made."""
        tensor = value[0] if isinstance(value, (tuple, list)) else value
        return tuple(tensor.shape[place] for place in self.propagation.places(node) or ())

    def bytes_per_position(self, node: fx.Node) -> int:
        """For one image."""
        info = self._info(node)
        elements = 1
        for place, length in enumerate(info.shape[1:], 1):
            elements *= 1 if place in (self.propagation.places(node) or ()) else length
        several = self.trace.values[node]
        times = len(several) if isinstance(several, tuple) else 1
        return times * elements * info.dtype.itemsize

    def cut(self, node: fx.Node, value: Any, own: Part, wanted: Part) -> Any:
        """A part of what a node made, of which another part is at hand."""
        if own == wanted:
            return value
        if isinstance(value, (tuple, list)):
            return type(value)(self.cut(node, each, own, wanted) for each in value)
        for place, (start, _), (low, high) in zip(
            self.propagation.places(node) or (), own, wanted, strict=True
        ):
            value = value.narrow(place, low - start, high - low)
        return value

    def reading(self, node: fx.Node) -> Reading:
        """How a node is run on parts of its maps.

        Raises:
            TopDownError: it needs the whole map; the text names it.
        """
        propagation = self.propagation
        sources = [n for n in node.all_input_nodes if n in propagation.fields]
        sources = sources[: propagation.reaches[node].sources]
        fault = self._fault(node, sources)
        if fault is not None:
            raise TopDownError(
                self.trace.place(node), seen=f"{propagation.operators[node].name}, {fault}",
                expected="operators whose outputs read a window of the map, up to the global pooling",
                remedy="run the network on the whole image",
            )  # fmt: skip
        return Reading(
            node,
            tuple(sources),
            self._taps(node),
            self.size(node),
            self.size(sources[0]),
        )

    def _taps(self, node: fx.Node) -> tuple[Taps, ...]:
        return per_axis(self.propagation.reaches[node].taps, len(self.size(node)))

    def _fault(self, node: fx.Node, sources: Sequence[fx.Node]) -> str | None:
        """Why a node can't be run on parts."""
        reach = self.propagation.reaches[node]
        if any(per_axis(reach.whole, 1)):
            return "which reads the whole map (statistics, attention)"
        if not self.is_map(node) or not all(self.is_map(source) for source in sources):
            return "which takes a map's positions apart, or pools them"
        if any(t.boundary in ("reflect", "circular") and t.step > 1 for t in self._taps(node)):
            return "which mirrors or repeats the border at a stride"
        if reach.measured:
            return "whose windows are known for the whole map only"
        if reach.sized:
            return "whose windows depend on the size of the whole map"
        if len({self.size(source) for source in sources}) > 1:
            return "which joins maps of several sizes"
        if any(self.propagation.is_length(n) for n in node.all_input_nodes):
            return "which computes with the size of a map"
        if self.propagation.operators[node].role == "combine" and self._reads_table(node):
            return "which reads a table of the map's positions"
        return None

    def _reads_table(self, node: fx.Node) -> bool:
        places = [
            place - len(self._info(node).shape) for place in self.propagation.places(node) or ()
        ]
        tables = [n for n in node.all_input_nodes if n.op == "get_attr"]
        shapes = [self.trace.values[n].shape for n in tables]
        return any(len(s) >= -p and s[p] > 1 for s in shapes for p in places)

    def _info(self, node: fx.Node) -> TensorInfo:
        info = self.trace.values[node]
        return info[0] if isinstance(info, tuple) else info  # type: ignore[no-any-return]


def wanted_parts(
    readings: Mapping[fx.Node, Reading], order: Sequence[fx.Node], target: fx.Node, part: Part
) -> dict[fx.Node, Part]:
    """The part of every map that a part of the target is made from.

    Args:
        readings: of the nodes that are run; others are at hand as whole maps.
        order: those nodes, in the order of the graph.
    """
    parts = {target: part}
    for node in reversed(order):
        if node not in parts:
            continue
        reading = readings[node]
        given = reading.needs(parts[node])
        for source in reading.sources:
            parts[source] = joined([given, *([parts[source]] if source in parts else [])])
    return parts


def joined(parts: Iterable[Part]) -> Part:
    """The smallest part that holds them all."""
    return tuple(
        (min(start for start, _ in axis), max(end for _, end in axis))
        for axis in zip(*parts, strict=True)
    )


def lent(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Something of that shape without memory, for an operator that reads only the shape."""
    return value.new_empty(()).expand(*shape)
