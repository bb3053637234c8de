"""Analyse: the strides of all tensors, and the trunk that every path passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import networkx as nx
from torch import fx, nn

from td_transform.analyse.infer import call_of, infer, operator_of
from td_transform.analyse.numbers import write_out_numbers
from td_transform.errors import StructureError
from td_transform.layers.axes import MapAxes
from td_transform.layers.parameters import parameters_of
from td_transform.operators import (
    Call,
    Inference,
    Spatial,
    TensorInfo,
    Window,
    module_operator,
)
from td_transform.operators.dimensions import FLAT
from td_transform.operators.rules import is_along_channels
from td_transform.operators.widths import Width
from td_transform.trace import Trace

Kind = Literal["unit", "depthwise", "block", "pool"]
# input pixels per step, along each axis
Stride = tuple[Fraction, ...]


def is_coarser(stride: Sequence[Fraction | int], than: Sequence[Fraction | int]) -> bool:
    """Has a map fewer positions than another, along any axis?"""
    return any(after > before for after, before in zip(stride, than, strict=True))


@dataclass(frozen=True)
class Segment:
    """A stretch of the trunk: a unit, a block, or a pooling between them.

    Args:
        kind: `unit` holds one convolution with its norm and activation, `block` branches (or is a
            depthwise unit with the pointwise ones around it; `depthwise` before they are joined),
            `pool` holds nothing learned.
        start: the tensor that flows in.
        nodes: all nodes, in graph order; the last is the tensor that flows out.
        stride_in, stride_out: input pixels per step along each axis.
    """

    kind: Kind
    start: fx.Node
    nodes: tuple[fx.Node, ...]
    stride_in: Stride
    stride_out: Stride

    @property
    def end(self) -> fx.Node:
        return self.nodes[-1]

    @property
    def crosses(self) -> bool:
        """Does the resolution fall from its start to its end?"""
        return is_coarser(self.stride_out, self.stride_in)

    def joined(self, other: Segment, kind: Kind) -> Segment:
        return replace(self, kind=kind, nodes=self.nodes + other.nodes, stride_out=other.stride_out)


@dataclass(frozen=True)
class Trunk:
    """The chain of tensors that every path from the image to the logits passes.

    Args:
        trace: the traced model.
        inference: the symbolic dimensions of every tensor, strides among them.
        tensors: the chain, from the image to the logits.
    """

    trace: Trace
    inference: Inference
    tensors: tuple[fx.Node, ...]

    def axes(self, node: fx.Node) -> MapAxes | None:
        """How a map is laid out: (N, C, H, W), channels last, or flattened; None for what is no map.

        Integers, frequencies and masks aren't: no layer could follow them.
        """
        dims = self.inference.dims.get(node)
        if not isinstance(dims, tuple) or not all(isinstance(d, (Spatial, Width)) for d in dims):
            return None
        if not self.trace.values[node].dtype.is_floating_point:
            return None
        places = tuple(i for i, dim in enumerate(dims) if isinstance(dim, Spatial))
        kinds = [dim.axis for dim in dims if isinstance(dim, Spatial)]
        flattened = kinds == [FLAT]
        if len(dims) != 2 + len(places) or not (flattened or kinds == list(range(self.count))):
            return None
        ahead = sum(dim.ahead for dim in dims if isinstance(dim, Spatial))
        if places == tuple(range(2, len(dims))):
            return MapAxes(1, places, flattened, ahead)
        is_last = places == tuple(range(1, len(dims) - 1))
        return MapAxes(len(dims) - 1, places, flattened, ahead) if is_last else None

    @property
    def count(self) -> int:
        """How many axes its maps have: 1 of a line, 2 of a picture, 3 of a volume."""
        return len(self.trace.input_size) - 1

    def stride(self, node: fx.Node) -> Stride | None:
        """Input pixels per step of a map along each axis; None for what is no map."""
        axes = self.axes(node)
        if axes is None:
            return None
        found = [self.inference.dims[node][place] for place in axes.positions]
        return tuple(axis.stride for axis in (found[0].along if axes.flattened else found))

    def width(self, node: fx.Node) -> int:
        """The channels of a map or vector."""
        info: TensorInfo = self.trace.values[node]
        axes = self.axes(node)
        return info.shape[1 if axes is None else axes.channels]

    def map_size(self, node: fx.Node) -> tuple[int, ...]:
        """(H, W) of a map, or of as many axes as it has."""
        axes, shape = self.axes(node), self.trace.values[node].shape
        if axes is None:
            return tuple(shape[2:])
        if axes.flattened:
            sizes: tuple[int, ...] = self.inference.dims[node][axes.positions[0]].sizes
            return sizes
        return tuple(shape[place] for place in axes.positions)

    @cached_property
    def order(self) -> dict[fx.Node, int]:
        return {node: i for i, node in enumerate(self.trace.graph.nodes)}

    def role(self, node: fx.Node) -> str:
        role = operator_of(self.trace, node).role
        return "linear" if role == "conv" and is_along_channels(self.call(node)) else role

    def adds_tokens(self, node: fx.Node) -> bool:
        """Are class tokens put ahead of a flattened map's positions here?"""
        axes = self.axes(node)
        return axes is not None and axes.ahead > 0 and self.moves_tokens(node)

    def moves_tokens(self, node: fx.Node) -> bool:
        """Does a map have other class tokens behind a node than before it?"""
        axes = self.axes(node)
        own = axes.ahead if axes is not None else 0
        read = [found.ahead for n in node.all_input_nodes if (found := self.axes(n)) is not None]
        return bool(read) and own not in read

    def activates(self, node: fx.Node) -> bool:
        """Is it an activation, or a layer with one inside (timm's `BatchNormAct2d`)?"""
        module = self.trace.module(node)
        parts = [] if module is None else map(module_operator, module.modules())
        return self.role(node) == "activation" or any(p and p.role == "activation" for p in parts)

    def keeps_shape(self, node: fx.Node) -> bool:
        """Is it a dropout or the like, whose output is shaped as its input is?"""
        return node.op != "get_attr" and operator_of(self.trace, node).keeps_shape

    def is_learned(self, node: fx.Node) -> bool:
        """Is it a convolution, linear or unknown layer with parameters (a fixed blur filter has none)?"""
        if node in self.constants or self.role(node) not in ("conv", "linear", "opaque"):
            return False
        module = self.trace.module(node)
        if module is not None:
            return self.role(node) != "opaque" or next(parameters_of(module), None) is not None
        if self.role(node) == "conv":  # a kernel may be computed from the image
            return self.constants.get(self.call(node).option("weight", 1), True)
        return any(self.constants.get(n, False) for n in node.all_input_nodes)

    def is_opaque(self, node: fx.Node) -> bool:
        """Could no rule follow it?"""
        return node in self.inference.opaque

    @cached_property
    def constants(self) -> dict[fx.Node, bool]:
        """What doesn't depend on the image, and whether parameters are among what it is made of."""
        found: dict[fx.Node, bool] = {}
        for node in self.trace.graph.nodes:
            sources = node.all_input_nodes
            if node.op == "get_attr":
                value = attribute_of(self.trace.skeleton, str(node.target))
                found[node] = isinstance(value, nn.Parameter)
            elif _asks_kind(node):
                found[node] = False
            elif node.op.startswith("call") and sources and all(n in found for n in sources):
                found[node] = any(found[n] for n in sources)
        return found

    def is_depthwise(self, node: fx.Node) -> bool:
        return self.role(node) == "conv" and self.call(node).is_depthwise

    def call(self, node: fx.Node) -> Call:
        """A node as the rules see it."""
        return call_of(self.trace, node, self.inference)

    def slides(self, node: fx.Node) -> bool:
        """Is it a convolution over as many axes as the maps have (not one along the channels)?"""
        return self.role(node) == "conv" and len(self.window(node).kernel) == self.count

    def window(self, node: fx.Node) -> Window:
        return self.call(node).window()

    def between(self, start: fx.Node, end: fx.Node) -> tuple[fx.Node, ...]:
        """All nodes that `end` needs beyond `start`, in graph order.

        What asks for the shape, type or device of an earlier tensor asks `start` instead, where
        that has the same.

        Raises:
            StructureError: a tensor of an earlier region is read.
        """
        needed: set[fx.Node] = set()
        stack = [end]
        while stack:
            node = stack.pop()
            if node is start or node in needed:
                continue
            if node.op == "placeholder":
                raise StructureError(
                    self.trace.place(end),
                    seen="a value computed from a tensor of an earlier region",
                    expected="regions that read their own input alone",
                    remedy="compute the value from the tensor at hand in the model's forward",
                )
            needed.add(node)
            if not self._asks_like(node, start):
                stack.extend(node.all_input_nodes)
        return tuple(sorted(needed, key=self.order.__getitem__))

    def asks(self, node: fx.Node, start: fx.Node) -> int | None:
        """Which dimension of `start`, as (N, C, H, W), a number is that was asked of an earlier tensor.

        Returns:
            None for a node that is something else, or whose answer `start` hasn't got.
        """
        number, dim = self.trace.values[node], self.inference.dims.get(node)
        asked = self._asked(node) if isinstance(number, int) else []
        if not asked or not all(self._is_earlier(tensor, start) for tensor in asked):
            return None
        if isinstance(dim, Spatial) and dim.axis != FLAT:
            at_hand = (self.stride(start) or (0,) * self.count)[dim.axis] == dim.stride
            return 2 + dim.axis if at_hand and self.map_size(start)[dim.axis] == number else None
        if node.target != "size":
            return None
        axes = self.axes(asked[0])
        if axes is not None and axes.channels == node.args[1] and number == self.width(start):
            return 1
        is_batch = node.args[1] == 0 and isinstance(dim, Width) and not dim.terms
        return 0 if is_batch and number == self.trace.values[start].shape[0] else None

    def _asked(self, node: fx.Node) -> list[fx.Node]:
        """The tensors whose sizes a number is computed from."""
        found: list[fx.Node] = []
        for source in node.all_input_nodes:
            is_number = isinstance(self.trace.values[source], int)
            found.extend(self._asked(source) if is_number else [source])
        return found

    def _asks_like(self, node: fx.Node, start: fx.Node) -> bool:
        """Does a node ask for a property of an earlier tensor that `start` has as well?"""
        if _asks_kind(node):
            return self._is_earlier(node.all_input_nodes[0], start)
        return self.asks(node, start) is not None

    def _is_earlier(self, node: fx.Node, start: fx.Node) -> bool:
        return node not in self.constants and self.order[node] < self.order[start]


def _asks_kind(node: fx.Node) -> bool:
    """Does it ask a tensor for its type or device, which no image changes?"""
    return node.target is getattr and node.args[1] in ("dtype", "device")


def attribute_of(root: nn.Module, target: str) -> Any:
    """A parameter, buffer or other attribute by its path: what a `get_attr` node reads."""
    path, _, name = target.rpartition(".")
    return getattr(root.get_submodule(path), name)


def find_trunk(trace: Trace) -> Trunk:
    """Strides of all tensors (Eq. 1: the product of the steps on the way), and the trunk.

    Its tensors are the dominators of the output. Integers made from shapes bypass every cut, so
    they don't count.
    """
    inference = started(trace)
    infer(trace, list(trace.graph.nodes)[:-1], inference)
    write_out_numbers(trace, inference)
    return Trunk(trace, inference, dominators_of(trace))


def started(trace: Trace) -> Inference:
    """An inference that knows the image alone: its axes are those of its maps."""
    image = next(iter(trace.graph.nodes))
    channels, *sizes = trace.input_size
    dims = (
        Width.of(trace.values[image].shape[0]),
        Width.of(channels),
        *(Spatial(axis, Fraction(1)) for axis in range(len(sizes))),
    )
    return Inference(dims={image: dims})


def dominators_of(trace: Trace) -> tuple[fx.Node, ...]:
    """The tensors that every path to the output passes, from the image on."""
    nodes = list(trace.graph.nodes)
    image, output = nodes[0], nodes[-1]
    tensor_graph = nx.DiGraph()
    tensor_graph.add_node(image)
    for node in nodes:
        for source in node.all_input_nodes:
            if _is_tensor(trace.values.get(source)):
                tensor_graph.add_edge(source, node)
    dominators = nx.immediate_dominators(tensor_graph, image)
    tensors = []
    node = output
    while node is not image:
        node = dominators[node]
        tensors.append(node)
    return tuple(reversed(tensors))


def _is_tensor(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_is_tensor(v) for v in value)
    return isinstance(value, TensorInfo)
