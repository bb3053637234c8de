"""The writer: which node of the graph every tensor and size of the recorded run is."""

from __future__ import annotations

import dataclasses
import operator as op
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from td_transform.errors import TraceError
from td_transform.operators.mutation import after
from td_transform.storages import storage_of
from td_transform.trace.sizes import Expression, Observer, Ratio, Size, plain
from td_transform.trace.source import user_line
from td_transform.trace.trees import describe, rebuilt

META = torch.device("meta")
_AS_THEY_ARE = (
    str, int, float, complex, type(None), type(...), torch.dtype, torch.device, torch.memory_format,
    torch.layout, torch._ops.OpOverload, types.FunctionType,
)  # fmt: skip
# what takes the shape, device or type of its second argument
_AS = ("to", "type_as", "expand_as", "view_as", "reshape_as")


class EscapedError(Exception):
    """A tensor appeared that no recorded function made: scripted functions don't report what they do."""


class Carrier(Tensor):
    """A tensor of the recording; a class of its own, so that every call returns a new object."""


@dataclasses.dataclass
class _Place:
    """Where a tensor's value stands in the graph: a node, or a part of one that nobody asked for yet."""

    tensor: Tensor  # also keeps it alive, so that its identity stays its own
    node: fx.Node
    index: tuple[Any, ...] = ()  # the items to take out of the node's value
    writer: fx.Node | None = None  # what has written into its memory since, through another tensor
    without_gradient: bool = False  # made under `torch.no_grad`


class GraphWriter:
    """Writes nodes, and finds the nodes of tensors, recorded sizes and devices.

    Args:
        skeleton: the model on the meta device.
        observer: whose sizes are those of this recording.
    """

    def __init__(self, skeleton: nn.Module, observer: Observer) -> None:
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.constants: dict[str, Tensor] = {}
        self.stack: OrderedDict[str, tuple[str, type]] = OrderedDict()
        self.with_gradient = True
        self.escaped = False  # has something happened that no function reported?
        self.unwritten: list[str] = []  # parameters and buffers that only the forward writes into
        self._skeleton = skeleton
        self._observer = observer
        self._names = _tensor_names(skeleton)
        self._places: dict[int, _Place] = {}
        self._memory: dict[int, list[_Place]] = {}
        self._writes: dict[fx.Node, str] = {}
        self._sizes: dict[tuple[fx.Node, int], Expression] = {}
        self._device: fx.Node | None = None

    def create(
        self, kind: str, target: Any, args: Any, kwargs: Any, value: Any, name: str | None = None
    ) -> fx.Node:
        """A node at the end of the graph, with its value's shape."""
        node = self.graph.create_node(kind, target, args, kwargs, name)
        if self.stack:
            node.meta["nn_module_stack"] = self.stack.copy()
        node.meta["source"] = user_line()
        self.values[node] = value
        return node

    def finish(self, result: Any) -> None:
        """Close the graph with that structure of tensors as its output; drop what nobody reads."""
        self.with_gradient = False  # the output itself is as the forward made it
        output = self.arguments(result)
        self.create("output", "output", (output,), {}, describe(result))
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
                del self.values[node]
                self._leave_unwritten(self._writes.get(node))
        self.graph.lint()

    # -- tensors -------------------------------------------------------------------------------

    def knows(self, value: Any) -> bool:
        key = id(value)
        return isinstance(value, Tensor) and (key in self._places or key in self._names)

    def node(self, tensor: Tensor) -> fx.Node:
        """The node whose value is this tensor's, at this point of the forward."""
        place = self._place(tensor)
        while place.index:
            item, value = place.index[0], self.values[place.node]
            args, name = (place.node, item), f"{place.node.name}_{item}"
            place.node = self.create("call_function", op.getitem, args, {}, value[item], name)
            place.index = place.index[1:]
        if place.writer is not None:
            args, value = (place.node, place.writer), self.values[place.node]
            place.node = self.create("call_function", after, args, {}, value)
            place.writer = None
        if place.without_gradient and self.with_gradient:
            value = self.values[place.node]
            place.node = self.create("call_method", "detach", (place.node,), {}, value)
            place.without_gradient = False
        return place.node

    def adopt(self, tensor: Tensor, node: fx.Node, index: tuple[Any, ...] = ()) -> Tensor:
        """The tensor as the forward gets it, known to be (an item of) that node's value."""
        with torch._C.DisableTorchFunction():
            carrier = tensor.as_subclass(Carrier)
        self._put(_Place(carrier, node, index, without_gradient=not self.with_gradient))
        return carrier

    def adopt_all(self, result: Any, node: fx.Node, written: list[Tensor]) -> Any:
        """A call's result as the forward gets it; what was written into stays the same object."""

        def visit(value: Any, index: tuple[Any, ...]) -> Any:
            if isinstance(value, Tensor):
                itself = any(value is x for x in written)
                return value if itself else self.adopt(value, node, index)
            if isinstance(value, Mapping):
                items = {k: visit(v, (*index, k)) for k, v in value.items()}
                return type(value)(items)  # type: ignore[call-arg]
            if isinstance(value, (tuple, list)):
                return rebuilt(value, [visit(v, (*index, i)) for i, v in enumerate(value)])
            return value

        return visit(result, ())

    def overwrite(self, tensor: Tensor, writer: fx.Node, *, is_value: bool) -> None:
        """A call has written into a tensor: all that share its memory have a new value.

        Args:
            tensor: what was written into.
            writer: the call's node.
            is_value: is the node's value the tensor itself?
        """
        place = self._place(tensor)
        for other in self._memory[storage_of(tensor)]:
            if id(other.tensor) in self._names:
                self._writes[writer] = self._names[id(other.tensor)]
            if other is not place or not is_value:
                other.writer = writer
        if is_value:
            place.node, place.index, place.writer = writer, (), None
            place.without_gradient = not self.with_gradient

    def replace(self, tensor: Tensor, other: Tensor) -> None:
        """``tensor.data = other``."""
        self._leave_unwritten(self._names.get(id(tensor)))
        self._put(dataclasses.replace(self._place(other), tensor=tensor))

    def _leave_unwritten(self, path: str | None) -> None:
        if path is not None and path not in self.unwritten:
            self.unwritten.append(path)

    def depends_on_image(self, tensor: Tensor) -> bool:
        """Is a tensor made of the image's values, and not of its size, device or type alone?"""
        place = self._places.get(id(tensor))
        seen: set[fx.Node] = set()
        stack = [node for node in (place.node, place.writer) if node] if place else []
        while stack:
            node = stack.pop()
            if node.op == "placeholder":
                return True
            is_asked = isinstance(self.values[node], (int, float, torch.device, torch.dtype))
            if node not in seen and not is_asked:
                seen.add(node)
                stack += _whose_values_are_read(node)
        return False

    def _put(self, place: _Place) -> None:
        self._places[id(place.tensor)] = place
        self._memory.setdefault(storage_of(place.tensor), []).append(place)

    def _place(self, tensor: Tensor) -> _Place:
        if id(tensor) not in self._places:
            path = self._path(tensor)
            self._put(_Place(tensor, self.create("get_attr", path, (), {}, describe(tensor))))
        return self._places[id(tensor)]

    def _path(self, tensor: Tensor) -> str:
        """A parameter's or buffer's path; a tensor made elsewhere becomes a constant of the skeleton."""
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        with torch._C.DisableTorchFunction():
            if tensor.is_meta:
                self.escaped = True
                raise EscapedError("a tensor that no function of torch made in this forward")
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                raise _unregistered()
            number = len(self.constants)
            while hasattr(self._skeleton, f"_tensor_constant{number}"):
                number += 1
            self.constants[f"_tensor_constant{number}"] = tensor.detach().clone()
        return f"_tensor_constant{number}"

    # -- arguments -----------------------------------------------------------------------------

    def arguments(self, tree: Any) -> Any:
        """Arguments as a graph has them: nodes for tensors, recorded sizes and the image's device."""
        if isinstance(tree, Tensor):
            return self.node(tree)
        if isinstance(tree, (Size, Ratio)):
            return self._computed(tree.expression, plain(tree))
        if isinstance(tree, torch.device) and tree.type == "meta":
            return self._device_node()
        if isinstance(tree, np.generic):  # some are Python's numbers too, but print as numpy's
            return tree.item()
        if isinstance(tree, _AS_THEY_ARE):
            return tree
        if isinstance(tree, Mapping):
            return {k: self.arguments(v) for k, v in tree.items()}
        if isinstance(tree, tuple):
            return tuple(self.arguments(x) for x in tree)
        if isinstance(tree, (list, range)):
            return [self.arguments(x) for x in tree]
        if isinstance(tree, slice):
            return slice(*(self.arguments(x) for x in (tree.start, tree.stop, tree.step)))
        if isinstance(tree, np.ndarray):
            return self.node(torch.from_numpy(tree))
        raise TraceError(
            user_line() or "forward",
            seen=f"a {type(tree).__name__} among the arguments or results of a call",
            expected="tensors, numbers, strings, and lists, tuples and dictionaries of them",
            remedy="pass the path of the module around it in leaf_modules",
        )

    def axis(self, tensor: Tensor, axis: int) -> Size:
        """The size of a tensor along an axis, as a recorded integer."""
        key = (self.node(tensor), axis)
        value: int = self.values[key[0]].shape[axis]
        if key not in self._sizes:
            self._sizes[key] = Expression("size", key, self._observer, value)
        return Size(value, self._sizes[key])

    def _computed(self, expression: Expression, value: Any) -> Any:
        """A size's node; a size of an earlier recording (from a user's cache) is a mere number."""
        if expression.observer is not self._observer:
            return value
        if expression.node is None:
            args = tuple(
                self._computed(a, a.value) if isinstance(a, Expression) else a
                for a in expression.args
            )
            kind = "call_method" if expression.target == "size" else "call_function"
            expression.node = self.create(kind, expression.target, args, {}, value)
        return expression.node

    def _device_node(self) -> fx.Node:
        """What runs on the meta device in a recording runs on the image's device in the graph."""
        if self._device is None:
            image = next(iter(self.graph.nodes))
            with self.graph.inserting_after(image):
                self._device = self.graph.call_function(getattr, (image, "device"))
            self.values[self._device] = META
        return self._device


def _whose_values_are_read(node: fx.Node) -> list[fx.Node]:
    """The inputs whose values count, and not their size, device or type alone."""
    name = str(getattr(node.target, "__name__", node.target))
    if name.endswith("_like") or name.startswith("new_"):
        return []
    return node.all_input_nodes[:1] if name in _AS else node.all_input_nodes


def _tensor_names(skeleton: nn.Module) -> dict[int, str]:
    """The path of every tensor that the skeleton holds, by identity."""
    names: dict[int, str] = {}
    for path, module in skeleton.named_modules():
        prefix = f"{path}." if path else ""
        for table in (module._parameters, module._buffers, vars(module)):
            for name, tensor in table.items():
                if isinstance(tensor, Tensor):
                    names.setdefault(id(tensor), prefix + name)
    return names


def _unregistered() -> TraceError:
    return TraceError(
        user_line(),
        seen="a parameter that is to be trained and is none of the model's: its layer stands in a plain "
        "list, say, where no optimiser finds it either",
        expected="layers that are attributes of the model's modules",
        remedy="keep such layers in nn.ModuleList or nn.ModuleDict; requires_grad_(False) on those that "
        "are hidden on purpose, to stay as they are",
    )
