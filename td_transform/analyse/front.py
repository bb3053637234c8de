"""Analyse: the front, what makes maps of an input that is none (electrodes over time, a waveform), and what
makes another image of an image (a resize, a learned warp).

Which axes are a map's is decided where the first convolution that trains reads: what stands before its
map is run once on the input, and the network begins with the map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from td_transform.analyse.infer import infer, operator_of
from td_transform.analyse.trunk import Trunk, attribute_of, dominators_of, started
from td_transform.errors import StructureError
from td_transform.layers.dimensions import DIMENSIONS
from td_transform.layers.parameters import parameters_of
from td_transform.operators import Spatial, TensorInfo
from td_transform.trace import Front, Trace, malformed_size


def behind_front(trace: Trace, *, resampled: bool = False) -> Trace:
    """The same, from the map that the first convolution reads on.

    A trace comes back as it is where the convolution slides over the axes of the input, or where axes
    that were only moved can't be parted.

    Args:
        trace: of a model.
        resampled: begin behind what makes another image of an image, too. Receptive fields and tiles
            count the pixels of the input, and don't.

    Raises:
        TraceError: no map of as many axes as the convolution has crosses to it.
        StructureError: learned layers stand before it.
    """
    trunk = Trunk(trace, started(trace), ())
    warped = _warped(trunk) if resampled else None
    if warped is not None:
        return _parted(trace, warped, _needed(warped))
    conv = _first_conv(trunk)
    if conv is None:
        if trunk.count not in DIMENSIONS:
            raise malformed_size(trace.input_size, 2)
        return trace
    axes = len(trunk.window(conv).kernel)
    moved = axes == trunk.count
    image = _map_before(trunk, conv, axes)
    other = resampled and _is_resized(trunk, image)
    if moved and not _reads_axis_as_channels(trunk, conv) and not other:
        return trace
    needed = _needed(image) if image is not None else []
    learned = _learned(trunk, needed)
    if image is not None and learned is None:
        return _parted(trace, image, needed)
    if moved:
        return trace
    if image is None or learned is None:
        raise malformed_size(trace.input_size, axes)
    raise _learned_before(trace, learned, image)


def _warped(trunk: Trunk) -> fx.Node | None:
    """The last tensor of the trunk that holds the image's values at other places, by a grid that may be
    learned (a spatial transformer)."""
    if not any(_moves(trunk, node) for node in trunk.trace.graph.nodes):
        return None
    for node in reversed(dominators_of(trunk.trace)):
        if _moves(trunk, node) and _is_image(trunk, _needed(trunk.call(node).input)):
            return node
    return None


def _moves(trunk: Trunk, node: fx.Node) -> bool:
    return operator_of(trunk.trace, node).role == "resample"


def _is_image(trunk: Trunk, needed: Sequence[fx.Node]) -> bool:
    """Is it made of the image without learned layers, but for those that say where to look?"""
    infer(trunk.trace, needed, trunk.inference)
    warped = [node for node in needed if _moves(trunk, node)]
    grids = {n for w in warped for n in {*_needed(w)} - {*_needed(trunk.call(w).input)}}
    return _learned(trunk, [n for n in needed if n not in grids]) is None


def _learned(trunk: Trunk, nodes: Iterable[fx.Node]) -> fx.Node | None:
    return next((n for n in nodes if trunk.is_learned(n) and _trains(trunk.trace, n)), None)


def _is_resized(trunk: Trunk, image: fx.Node | None) -> bool:
    """Is it finer than the input, or at no whole stride?"""
    dims = trunk.inference.dims[image] if image is not None else ()
    return any(isinstance(dim, Spatial) and dim.stride.denominator > 1 for dim in dims)


def _first_conv(trunk: Trunk) -> fx.Node | None:
    """The first convolution over maps that trains; any, where none does."""
    found: list[fx.Node] = []
    nodes: list[fx.Node] = list(trunk.trace.graph.nodes)
    for node in nodes[:-1]:
        infer(trunk.trace, [node], trunk.inference)
        if node.op != "get_attr" and trunk.role(node) == "conv" and trunk.is_learned(node):
            if _trains(trunk.trace, node):
                return node
            found.append(node)
    return found[0] if found else None


def _trains(trace: Trace, node: fx.Node) -> bool:
    """Are parameters among what a layer is made of that the optimiser changes?"""
    return any(parameter.requires_grad for parameter in _parameters(trace, node))


def _parameters(trace: Trace, node: fx.Node) -> Iterator[nn.Parameter]:
    module = trace.module(node)
    if module is not None:
        yield from parameters_of(module)
    for source in _needed(node) if module is None else ():
        if source.op == "get_attr":
            value = attribute_of(trace.skeleton, str(source.target))
            if isinstance(value, nn.Parameter):
                yield value


def _reads_axis_as_channels(trunk: Trunk, conv: fx.Node) -> bool:
    """Are what it takes for channels an axis of the input, which was moved there?"""
    dims = trunk.inference.dims[trunk.call(conv).input]
    return len(dims) == trunk.count + 2 and isinstance(dims[1], Spatial)


def _map_before(trunk: Trunk, conv: fx.Node, axes: int) -> fx.Node | None:
    """The last tensor before it that every path passes, of that many axes and of all images; where it
    is padded, as it was before."""
    values = trunk.trace.values
    batch = values[next(iter(values))].shape[0]
    before = {*_needed(conv)} - {conv}
    found = [
        node
        for node in dominators_of(trunk.trace)
        if node in before
        and isinstance(info := values[node], TensorInfo)
        and len(info.shape) == axes + 2
        and info.shape[0] == batch
    ]
    while len(found) > 1 and _pads(trunk, found[-1]):
        found.pop()
    return found[-1] if found else None


def _pads(trunk: Trunk, node: fx.Node) -> bool:
    if trunk.role(node) != "pool":
        return False
    before, after = trunk.call(node).shape(), trunk.trace.values[node].shape
    if trunk.call(node).dims()[2:] != trunk.inference.dims[node][2:]:
        return False
    return all(was <= size for was, size in zip(before, after, strict=True))


def _needed(node: fx.Node) -> list[fx.Node]:
    """A node and all that it is computed from, in the order of the graph."""
    found, stack = {node}, [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return [n for n in node.graph.nodes if n in found]


def _parted(trace: Trace, image: fx.Node, needed: list[fx.Node]) -> Trace:
    """The front by itself, and the network whose input is the map."""
    front = fx.Graph()
    placed: dict[fx.Node, fx.Node] = {}
    for node in needed:
        placed[node] = front.node_copy(node, lambda n: placed[n])
    front.output(placed[image])
    rest = _Rest(trace, image)
    steps = tuple(_title(trace, n) for n in needed if isinstance(trace.values[n], TensorInfo))
    return replace(
        trace,
        graph=rest.graph,
        values=rest.values,
        input_size=tuple(trace.values[image].shape[1:]),
        front=Front(front, trace.input_size, steps[1:]),
        notes=(*trace.notes, *rest.notes),
    )


class _Rest:
    """The graph behind the map: what it asks of an earlier tensor it asks the map, or has as the
    number that it was."""

    def __init__(self, trace: Trace, image: fx.Node) -> None:
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.notes: list[str] = []
        self._trace = trace
        self._image = image
        self._placed = {image: self._kept(self.graph.placeholder("image"), image)}
        nodes = list(trace.graph.nodes)
        place = nodes.index(image)
        before = set(nodes[:place])
        for node in nodes[place + 1 :]:
            if node.target not in ("size", getattr) or node.args[0] not in before:
                self._copy(node)

    def _copy(self, node: fx.Node) -> fx.Node:
        copied = self.graph.node_copy(node, self._earlier)
        return self._kept(copied, node)

    def _kept(self, copied: fx.Node, node: fx.Node) -> fx.Node:
        if node.op != "output":
            self.values[copied] = self._trace.values[node]
        if node is not self._image:
            self._placed[node] = copied
        return copied

    def _earlier(self, node: fx.Node) -> Any:
        if node in self._placed:
            return self._placed[node]
        value, image = self._trace.values[node], self._image
        if node.target == "size" and value == self._trace.values[image].shape[0]:
            asked = self.graph.call_method("size", (self._placed[image], 0))
            return self._kept(asked, node)
        if node.target is getattr and node.args[1] in ("dtype", "device"):
            asked = self.graph.call_function(getattr, (self._placed[image], node.args[1]))
            return self._kept(asked, node)
        if isinstance(value, TensorInfo) or node.op == "get_attr":
            return self._copy(node)  # a table, which the front reads as well
        if isinstance(value, int) and not any(map(self._is_batch, _needed(node))):
            self.notes.append(f"{self._trace.place(node)}: {value}, as before the map")
            return value
        return self._copy(node)

    def _is_batch(self, node: fx.Node) -> bool:
        return bool(node.target == "size" and node.args[1] == 0)


def _title(trace: Trace, node: fx.Node) -> str:
    module = trace.module(node)
    if module is not None:
        return type(module).__name__
    return str(getattr(node.target, "__name__", node.target))


def _learned_before(trace: Trace, learned: fx.Node, image: fx.Node) -> StructureError:
    shape = trace.values[image].shape
    return StructureError(
        trace.place(learned),
        seen=f"a learned layer before the tensor {tuple(shape[1:])} that the first convolution reads, "
        f"of an input {trace.input_size}",
        expected="maps whose axes are the input's, or that are made of it without learned layers",
        remedy="convert the network behind that layer by itself",
    )
