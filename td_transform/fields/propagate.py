"""Eq. 1 of the paper on a graph: every tensor's receptive field, in one pass from the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from torch import fx

from td_transform.analyse import call_of, infer, operator_of
from td_transform.errors import StructureError, WidthConflictError
from td_transform.fields.maps import MapField, concatenated, united
from td_transform.fields.opaque import OpaqueReaches
from td_transform.operators import Call, Dims, Inference, Operator, Spatial, TensorInfo
from td_transform.operators.dimensions import FLAT
from td_transform.operators.opaque import OPAQUE, everything
from td_transform.operators.reach import axes_of, index_items
from td_transform.operators.rules import is_along_channels
from td_transform.operators.widths import Conflict, Width
from td_transform.taps import Reach
from td_transform.trace import Trace

_ONE = Fraction(1)


class Propagation:
    """Walks a traced graph; `fields` holds a `MapField` per tensor, or a tuple of them.

    `operators` and `reaches` hold what the registry says of each node that was followed.

    Args:
        trace: the traced network.

    Raises:
        StructureError: an operator is used in a way that its rule doesn't cover.
    """

    def __init__(self, trace: Trace) -> None:
        self.fields: dict[fx.Node, Any] = {}
        self.operators: dict[fx.Node, Operator] = {}
        self.reaches: dict[fx.Node, Reach] = {}
        self._trace = trace
        self._count = len(trace.input_size) - 1
        self._inference = Inference(follows_positions=True)
        self._alone = OpaqueReaches(trace)
        nodes = [node for node in trace.graph.nodes if node.op != "output"]
        self._start(nodes[0])
        for node in nodes[1:]:
            self._visit(node)

    def _start(self, image: fx.Node) -> None:
        shape = self._trace.values[image].shape
        self._inference.dims[image] = (
            Width.of(shape[0]), Width.of(shape[1]),
            *(Spatial(axis, _ONE) for axis in range(self._count)),
        )  # fmt: skip
        self.fields[image] = MapField.image(*shape[2:])

    def axes(self, node: fx.Node) -> set[int]:
        """The axes of the map that a tensor still has."""
        dims = self._inference.dims[node]
        return axes_of(dims, self._count) if isinstance(dims, tuple) else set()

    def is_along_channels(self, node: fx.Node) -> bool:
        """Is it a convolution that slides over channels?"""
        operator = self.operators[node]
        return operator.role == "conv" and is_along_channels(
            call_of(self._trace, node, self._inference)
        )

    def places(self, node: fx.Node) -> tuple[int, ...] | None:
        """Where the axes of the map stand among a tensor's dimensions; None where one is missing,
        or flattened with another."""
        dims = self._inference.dims[node]
        if isinstance(self._trace.values[node], tuple):
            dims = dims[0] if dims else None
        if not isinstance(dims, tuple):
            return None
        found = {
            dim.axis: place
            for place, dim in enumerate(dims)
            if isinstance(dim, Spatial) and dim.axis != FLAT
        }
        whole = len(found) == self._count
        return tuple(found[axis] for axis in range(self._count)) if whole else None

    def is_length(self, node: fx.Node) -> bool:
        """Is it a number, the size of a map along an axis?"""
        return isinstance(self._inference.dims[node], Spatial)

    def _visit(self, node: fx.Node) -> None:
        try:
            infer(self._trace, [node], self._inference)
            if node.op != "get_attr":
                self._follow(node)
        except (Conflict, WidthConflictError) as conflict:
            seen = conflict.seen if isinstance(conflict, WidthConflictError) else str(conflict)
            raise StructureError(
                self._trace.place(node),
                seen=seen,
                expected="a use of the operator that its receptive-field rule covers",
                remedy="register a module around this code with td_transform.register_operator",
            ) from conflict

    def _follow(self, node: fx.Node) -> None:
        """The field of a node whose dimensions are known."""
        opaque = node in self._inference.opaque
        operator = OPAQUE if opaque else operator_of(self._trace, node)
        # of what may read everything the registry knows widths alone
        reads = OPAQUE if operator.reach is everything else operator
        call = call_of(self._trace, node, self._inference)
        reach = self._reach(call, reads)
        if operator.role == "collapse":
            self._restore_axes(call)
        self._forget_widths(node)
        self.operators[node], self.reaches[node] = operator, reach
        field = self._field(call, reads, reach)
        if field is not None:
            self.fields[node] = field

    def _reach(self, call: Call, operator: Operator) -> Reach:
        if operator is OPAQUE:
            return self._alone.reach(call)
        return operator.reach(call) if operator.reach else Reach()

    def _restore_axes(self, call: Call) -> None:
        """An adaptive pooling to a given size: the channel rules see no stride, but positions stay."""
        before, after = self._inference.dims[call.input], self._inference.dims[call.node]
        info = self._trace.values[call.node]
        if not isinstance(info, TensorInfo) or len(before) != len(after):
            return
        self._inference.dims[call.node] = tuple(
            old if isinstance(old, Spatial) and old.axis != FLAT and size > 1 else new
            for old, new, size in zip(before, after, info.shape, strict=True)
        )

    def _forget_widths(self, node: fx.Node) -> None:
        """Channel counts become numbers: their dependencies don't matter here, and cost time."""
        info = self._trace.values[node]
        self._inference.dims[node] = _numbers(self._inference.dims[node], info)

    def _field(self, call: Call, operator: Operator, reach: Reach) -> Any:
        node = call.node
        picked = self.fields.get(call.input) if call.node.all_input_nodes else None
        if isinstance(picked, (tuple, dict)):
            index: Any = node.args[1]
            return picked[index]
        info = self._trace.values[node]
        sources = [n for n in node.all_input_nodes if n in self.fields][: reach.sources]
        if not sources or not _holds_tensors(info):
            return None
        if reach.levels or operator.channels == "part":
            return self._several(call, reach, self.fields[sources[0]])
        if operator.channels == "join":
            return self._concatenation(call)

        def parts(output: tuple[Dims, TensorInfo]) -> list[MapField]:
            return [self._through(source, call, operator, reach, output) for source in sources]

        return _of_each(parts, self._inference.dims[node], info)

    def _through(
        self,
        source: fx.Node,
        call: Call,
        operator: Operator,
        reach: Reach,
        output: tuple[Dims, TensorInfo],
    ) -> MapField:
        """One input's field, as the positions of an output see it."""
        field: MapField = self.fields[source].with_whole(reach.whole)
        field = self._sliced_channels(field, call, operator)
        if len(call.tensors) > 1 and operator is not OPAQUE:
            self._check_orientation(source, call.node)
        dims, info = output
        before, after = self.axes(source), axes_of(dims, self._count)
        own, counts = self._counts(source), _counts(dims, info, self._count)
        kept = tuple(count or before for count, before in zip(counts, own, strict=True))
        read = field.read(reach.taps, kept, mixes=reach.mixes)
        broadcast = {a for a in before & after if counts[a] > 1 and own[a] == 1}
        alone = broadcast if len(call.tensors) > 1 else set()
        return read.pooled((before - after) | alone)

    def _counts(self, node: fx.Node) -> tuple[int, ...]:
        return _counts(self._inference.dims[node], self._trace.values[node], self._count)

    def _concatenation(self, call: Call) -> MapField:
        tensors: Any = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
        place = int(call.option("dim", 1, call.option("axis", 1, 0)))
        dims = self._inference.dims[call.node]
        if isinstance(dims[place], Spatial):
            raise Conflict("a concatenation along an axis of the map")
        parts = [(self._trace.values[t].shape[place], self._plain(t, call)) for t in tensors]
        known = [(width, field) for width, field in parts if field is not None]
        if place % len(dims) == 1 and len(known) == len(parts):
            return concatenated(known)
        return united([MapField(field.axes) for _, field in known], 0)

    def _plain(self, source: fx.Node, call: Call) -> MapField | None:
        field = self.fields.get(source)
        return field.pooled(self.axes(source) - self.axes(call.node)) if field else None

    def _several(self, call: Call, reach: Reach, field: MapField) -> tuple[MapField, ...]:
        """Operators that part a map: into channels, or the levels of a pyramid."""
        infos = self._trace.values[call.node]
        if reach.levels:
            return tuple(
                field.read(taps, info.shape[2:], mixes=True)
                for taps, info in zip(reach.levels, infos, strict=True)
            )
        place = int(call.option("dim", 2, 0)) % len(infos[0].shape)
        if isinstance(self._inference.dims[call.node][0][place], Spatial):
            raise Conflict("a split along an axis of the map")
        if place != 1:
            return (MapField(field.axes),) * len(infos)
        ends = [sum(i.shape[1] for i in infos[: k + 1]) for k in range(len(infos))]
        return tuple(
            field.channels(end - info.shape[1], end) for end, info in zip(ends, infos, strict=True)
        )

    def _check_orientation(self, source: fx.Node, node: fx.Node) -> None:
        """Maps that are joined have their axes in the same places, counted from the last."""
        pairs = zip(
            reversed(self._inference.dims[source]),
            reversed(self._inference.dims[node]),
            strict=False,
        )
        for old, new in pairs:
            if isinstance(old, Spatial) and isinstance(new, Spatial) and old.axis != new.axis:
                raise Conflict("a map joined with a transposed one")

    def _sliced_channels(self, field: MapField, call: Call, operator: Operator) -> MapField:
        if operator.channels != "index" or len(call.shape()) < 2 or not field.groups:
            return field
        _, size, item = index_items(call)[1]
        if isinstance(item, slice):
            start, stop, step = item.indices(size)
            return field.channels(start, stop) if step == 1 else MapField(field.axes)
        return field.channels(item % size, item % size + 1)


def _counts(dims: Any, info: TensorInfo, axes: int) -> tuple[int, ...]:
    """Positions per axis; 0 for an axis that a tensor has not, or has flattened."""
    counts = [0] * axes
    for dim, size in zip(dims, info.shape, strict=True):
        if isinstance(dim, Spatial) and dim.axis != FLAT:
            counts[dim.axis] = size
    return tuple(counts)


def _numbers(dims: Any, values: Any) -> Any:
    """Symbolic widths as the numbers that they are."""
    if isinstance(dims, Width) and isinstance(values, int):
        return Width.of(values)
    sizes = values.shape if isinstance(values, TensorInfo) else values
    if isinstance(dims, tuple) and isinstance(sizes, tuple) and len(dims) == len(sizes):
        return tuple(_numbers(dim, size) for dim, size in zip(dims, sizes, strict=True))
    return dims


def _of_each(
    parts: Callable[[tuple[Dims, TensorInfo]], Sequence[MapField]], dims: Any, info: Any
) -> Any:
    """The fields of all that an operator returns, nested as that is."""
    if isinstance(info, TensorInfo):
        return united(parts((dims, info)), _width(info))
    if isinstance(info, tuple):
        return tuple(_of_each(parts, *pair) for pair in zip(dims, info, strict=True))
    if isinstance(info, dict):
        return {key: _of_each(parts, dims[key], info[key]) for key in info}
    return None


def _holds_tensors(info: Any) -> bool:
    if isinstance(info, (tuple, dict)):
        return any(map(_holds_tensors, info.values() if isinstance(info, dict) else info))
    return isinstance(info, TensorInfo)


def _width(info: TensorInfo) -> int:
    return info.shape[1] if len(info.shape) > 1 else 1
