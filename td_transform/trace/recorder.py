"""The recorder: while a forward runs on meta tensors, every function is written into a graph."""

from __future__ import annotations

import copy
import dataclasses
import operator as op
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from td_transform.errors import TraceError
from td_transform.operators import TensorInfo, module_operator
from td_transform.operators.rules import keep
from td_transform.trace.mutation import after, assigned
from td_transform.trace.realvalues import RealValues
from td_transform.trace.sizes import Expression, Ratio, Size, plain, recorded
from td_transform.trace.source import user_line
from td_transform.trace.targets import (
    FACTORIES,
    SIZE_READS,
    VALUE_READS,
    attribute_of,
    is_method,
    public,
)

META = torch.device("meta")
_WITHOUT_EFFECT = frozenset({torch._C._set_grad_enabled, torch.device})
_PLAIN = (str, int, float, complex, type(None), type(...), torch.dtype, torch.device,
          torch.memory_format, torch.layout)  # fmt: skip


class EscapedError(Exception):
    """A tensor appeared that no recorded function made: scripted functions don't report what they do."""


class Carrier(Tensor):
    """A tensor of the recording; a class of its own keeps it apart from tensors made elsewhere."""


@dataclasses.dataclass
class _Place:
    """Where a tensor's value stands in the graph: a node, or a part of one that nobody asked for yet."""

    tensor: Tensor
    node: fx.Node
    index: tuple[Any, ...] = ()  # the items to take out of the node's value
    writer: fx.Node | None = None  # what has written into its memory since, through another tensor


class Recorder(TorchFunctionMode):
    """Records one run of a skeleton.

    Args:
        skeleton: the model on the meta device.
        is_leaf: which modules are recorded as one call.
        real: computes values that meta tensors don't have.
        hashable_sizes: may sizes be looked up in tables (and be frozen there)?
    """

    def __init__(
        self,
        skeleton: nn.Module,
        is_leaf: Callable[[nn.Module], bool],
        model: nn.Module | None,
        *,
        hashable_sizes: bool = False,
    ) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.decisions: list[tuple[str, bool]] = []
        self.notes: dict[str, None] = {}
        self.hashable_sizes = hashable_sizes
        self.escaped = False  # has something happened that no function reported?
        self._is_leaf = is_leaf
        self._real = RealValues(skeleton, model, self.graph)
        self._places: dict[int, _Place] = {}
        self._memory: dict[int, list[_Place]] = {}
        self._sizes: dict[tuple[fx.Node, int], Expression] = {}
        self._names = _tensor_names(skeleton)
        self._paused = 0
        self._stack: OrderedDict[str, tuple[str, type]] = OrderedDict()
        self._calls: dict[str, int] = {}
        self._device: fx.Node | None = None
        self.failed_in: str | None = None

    # -- running -------------------------------------------------------------------------------

    def run(self, image: Tensor, input_name: str) -> Any:
        """Run the forward on that image; the result is the forward's own, made of carriers."""
        node = self._create("placeholder", input_name, (), {})
        self.values[node] = self._real.image = describe(image)
        with self._pause():
            carrier = self._adopt(image, _Place(image, node))
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self._intercepted())
            stack.enter_context(self)
            return self.skeleton(carrier)

    def finish(self, result: Any) -> fx.Graph:
        """Close the graph with that structure of tensors as its output."""
        self._create("output", "output", (self._arguments(result),), {})
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
                self.values.pop(node, None)
        self.graph.lint()
        return self.graph

    @property
    def constants(self) -> Mapping[str, Tensor]:
        """Tensors that the forward brought along, by the path that the graph reads them at."""
        return self._real.constants

    def decided(self, outcome: bool) -> None:
        self.decisions.append((user_line(), outcome))

    @contextmanager
    def _intercepted(self) -> Iterator[None]:
        """Module calls pass through the recorder; afterwards the skeleton is as it was."""
        before = [(c, copy.copy(c)) for m in self.skeleton.modules() for c in _containers(m)]
        for path, module in self.skeleton.named_modules():
            if path:
                vars(module)["forward"] = _Intercepted(self, path, module)
        try:
            yield
        finally:
            for container, content in before:
                container.clear()
                if isinstance(container, list):
                    container.extend(content)
                else:
                    container.update(content)

    def call_module(
        self, module: nn.Module, path: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if self._paused:
            return forward(*args, **kwargs)
        calls = self._calls[path] = self._calls.get(path, -1) + 1
        key = f"{path}@{calls}" if calls else path
        self._stack[key] = (path, type(module))
        try:
            if self._is_leaf(module):
                with self._pause():
                    return self._record("call_module", path, forward, args, kwargs)
            return forward(*args, **kwargs)
        except Exception:
            self.failed_in = self.failed_in or path
            raise
        finally:
            self._stack.popitem()

    # -- functions -----------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused or func in _WITHOUT_EFFECT:
            return self._execute(func, args, kwargs)
        with self._pause():
            return self._function(func, args, kwargs)

    def _function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if (attribute := attribute_of(func)) is not None:
            return self._attribute(func, attribute, args)
        name = getattr(func, "__name__", "")
        if name in SIZE_READS and is_method(func):
            return self._size(func, name, args, kwargs)
        if str(func).startswith("prims."):  # the inside of an operator that didn't report itself
            self.escaped = True
            return self._execute(func, args, kwargs)
        if func is Tensor.__setitem__ and len(args) == 3:
            self._record("call_function", assigned, assigned, args, {})
            return None
        return self._record("function", func, func, args, kwargs)

    def record_operator(
        self, operator: Any, public_name: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record what torch's dispatcher saw, under a public name; nothing while another call runs."""
        if self._paused:
            return operator(*args, **kwargs)
        with self._pause():
            return self._record("call_function", public_name, operator, args, kwargs)

    def _attribute(self, func: Any, attribute: tuple[str, str], args: tuple[Any, ...]) -> Any:
        name, kind = attribute
        if name == "shape" and kind == "__get__":
            return self._size(func, name, args, {})
        if kind != "__get__":
            if name == "data" and isinstance(args[1], Tensor):
                self._places[id(args[0])] = dataclasses.replace(
                    self._place(args[1]), tensor=args[0]
                )
            return self._execute(func, args, {})
        if name in ("grad", "_grad", "grad_fn", "_base"):
            return None
        result = self._execute(func, args, {})
        if not isinstance(result, Tensor):
            return result
        if name == "data":
            return self._record("call_method", "detach", Tensor.detach, args, {})
        return self._record("call_function", getattr, getattr, (args[0], name), {})

    def _size(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = self._execute(func, args, kwargs)
        tensor = args[0]
        if not self._is_known(tensor):
            return result
        sizes = [self._axis(tensor, i) for i in range(tensor.dim())]
        if name in ("numel", "nelement"):
            product: Any = 1
            for size in sizes:
                product = product * size
            return product
        if name == "__len__":
            return result
        if not isinstance(result, torch.Size):
            return sizes[kwargs.get("dim", args[1] if len(args) > 1 else 0)]
        return torch.Size(sizes)

    def _axis(self, tensor: Tensor, axis: int) -> Size:
        node = self._node(tensor)
        key = (node, axis)
        if key not in self._sizes:
            self._sizes[key] = Expression("size", key, self)
        with torch._C.DisableTorchFunction():
            return Size(int(tensor.shape[axis]), self._sizes[key])

    # -- recording -----------------------------------------------------------------------------

    def _record(
        self, kind: str, target: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Execute a call; where tensors come out of it, or are written into, put it in the graph."""
        given = [x for x in _tensors((args, kwargs)) if self._is_known(x)]
        versions = [_version(x) for x in given]
        result = self._executed(kind, target, func, args, kwargs)
        written = [x for x, v in zip(given, versions, strict=True) if _version(x) != v]
        if not written and next(_tensors(result), None) is None:
            return result
        if kind == "function":
            kind, target, args, kwargs = public(func, args, kwargs)
        node = self._create(kind, target, self._arguments(args), self._arguments(kwargs))
        self.values[node] = describe(result)
        returned = self._returned(result, node, given, written)
        for tensor in written:
            self._overwrite(tensor, node, returned_itself=tensor is result or target is assigned)
        return returned

    def _executed(
        self, kind: str, target: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """On meta tensors; where these don't do, on real ones."""
        if kind == "call_module" and self._keeps_shape(target, args, kwargs):
            return torch.empty_like(args[0], device=META, memory_format=torch.contiguous_format)
        try:
            if kind == "call_module":
                with torch._C.DisableTorchFunction(), torch.no_grad():
                    return func(*self._on_meta(args), **self._on_meta(kwargs))
            return self._execute(func, args, kwargs)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            try:
                real = self._real_result(kind, target, func, args, kwargs)
            except EscapedError:
                raise
            except Exception:
                raise error from None
        if next(_tensors(real), None) is None:
            self._note_value(func, real)
            return real
        return _mapped(real, lambda x: torch.empty_like(x, device=META))

    def _keeps_shape(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Such modules needn't run: torch takes milliseconds for a norm's shape on the meta device,
        and a module with branches on values could not run there at all."""
        module = self.skeleton.get_submodule(path)
        operator = module_operator(module)
        if operator is None or kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            return False
        keeps = operator.role == "norm" or operator.infer is keep
        return keeps and not getattr(module, "inplace", False)

    def _execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a torch function on the meta device, without recording what it is made of."""
        args, kwargs = self._on_meta(args), self._on_meta(kwargs)
        if func in FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": META}
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0]
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], str):
            args = (args[0], META, *args[2:])
        if func is torch._C._set_grad_enabled:
            return func(*args)
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            return func(*args, **kwargs)

    def _on_meta(self, tree: Any) -> Any:
        def convert(x: Any) -> Any:
            if isinstance(x, Tensor):
                return x if x.is_meta else torch.empty_like(x, device=META)
            return META if isinstance(x, torch.device) else x

        with torch._C.DisableTorchFunction():
            tree = _mapped(tree, convert, (Tensor, torch.device))
        if isinstance(tree, dict) and isinstance(tree.get("device"), (str, int)):
            tree["device"] = META
        return tree

    def _real_result(
        self, kind: str, target: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        known = [x for x in _tensors((args, kwargs)) if self._is_known(x)]
        nodes = {id(x): self._node(x) for x in known}
        with torch._C.DisableTorchFunction():
            found = self._real.of(list(nodes.values()))
            real = {key: found[node] for key, node in nodes.items()}
            call = self._real.leaf(target) if kind == "call_module" else func

            def convert(x: Any) -> Any:
                return self._real.device if isinstance(x, torch.device) else real.get(id(x), x)

            args, kwargs = (
                _mapped(t, convert, (Tensor, torch.device)) for t in (args, kwargs)
            )
            with torch.no_grad():
                return call(*args, **kwargs)

    def _note_value(self, func: Any, value: Any) -> None:
        name = getattr(func, "__name__", "value").strip("_")
        if name in {v.strip("_") for v in VALUE_READS}:
            text = f"{value}" if isinstance(value, (bool, int, float)) else type(value).__name__
            self.notes[f"{name}() of a tensor is fixed at {text} ({user_line()})"] = None

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    # -- the graph -----------------------------------------------------------------------------

    def _create(self, kind: str, target: Any, args: Any, kwargs: Any) -> fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs)
        if self._stack:
            node.meta["nn_module_stack"] = self._stack.copy()
        node.meta["source"] = user_line()
        return node

    def _returned(
        self, result: Any, node: fx.Node, given: list[Tensor], written: list[Tensor]
    ) -> Any:
        """The result as the forward gets it, every tensor in it with its place in the graph."""

        def keep(value: Any, index: tuple[Any, ...]) -> Any:
            if isinstance(value, Tensor):
                if any(value is x for x in written):
                    self._places[id(value)] = _Place(value, node, index)
                    return value
                return self._adopt(value, _Place(value, node, index))
            if isinstance(value, Mapping):
                return type(value)({k: keep(v, (*index, k)) for k, v in value.items()})  # type: ignore[call-arg]
            if isinstance(value, (tuple, list)):
                return _rebuilt(value, [keep(v, (*index, i)) for i, v in enumerate(value)])
            return value

        return keep(result, ())

    def _adopt(self, tensor: Tensor, place: _Place) -> Tensor:
        with torch._C.DisableTorchFunction():
            carrier = tensor.as_subclass(Carrier)
        place.tensor = carrier
        self._places[id(carrier)] = place
        self._memory.setdefault(_memory_of(carrier), []).append(place)
        return carrier

    def _overwrite(self, tensor: Tensor, writer: fx.Node, *, returned_itself: bool) -> None:
        """A call has written into a tensor: it and all that share its memory have a new value."""
        if returned_itself:
            place = self._place(tensor)
            self._places[id(tensor)] = dataclasses.replace(place, node=writer, index=())
        for place in self._memory.get(_memory_of(tensor), ()):
            current = self._places.get(id(place.tensor))
            if current is not None and not (returned_itself and place.tensor is tensor):
                current.writer = writer

    def _is_known(self, tensor: Any) -> bool:
        key = id(tensor)
        return isinstance(tensor, Tensor) and (key in self._places or key in self._names)

    def _place(self, tensor: Tensor) -> _Place:
        place = self._places.get(id(tensor))
        if place is None:
            node = self._create("get_attr", self._attribute_path(tensor), (), {})
            self.values[node] = describe(tensor)
            place = self._places[id(tensor)] = _Place(tensor, node)
            self._memory.setdefault(_memory_of(tensor), []).append(place)
        return place

    def _attribute_path(self, tensor: Tensor) -> str:
        """A parameter's or buffer's path; a tensor made elsewhere becomes a constant of the skeleton."""
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        with torch._C.DisableTorchFunction():
            if tensor.is_meta:
                self.escaped = True
                raise EscapedError("a tensor that no function of torch made in this forward")
        return self._real.constant(tensor)

    def _node(self, tensor: Tensor) -> fx.Node:
        place = self._place(tensor)
        while place.index:
            value = self.values[place.node]
            item = place.index[0]
            place.node = self._create("call_function", op.getitem, (place.node, item), {})
            self.values[place.node] = value[item]
            place.index = place.index[1:]
        if place.writer is not None:
            node = self._create("call_function", after, (place.node, place.writer), {})
            self.values[node] = self.values[place.node]
            place.node, place.writer = node, None
        return place.node

    def _arguments(self, tree: Any) -> Any:
        """Arguments as a graph has them: nodes for tensors and recorded sizes."""
        if isinstance(tree, Tensor):
            return self._node(tree)
        if isinstance(tree, (Size, Ratio)):
            return self._size_node(tree.expression, plain(tree))
        if isinstance(tree, torch.device):
            return self._device_node() if tree.type == "meta" else tree
        if isinstance(tree, (bool, *_PLAIN)):
            return tree
        if isinstance(tree, (torch._ops.OpOverload, types.FunctionType)):
            return tree
        if isinstance(tree, Mapping):
            return {k: self._arguments(v) for k, v in tree.items()}
        if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
            return {f.name: self._arguments(getattr(tree, f.name)) for f in dataclasses.fields(tree)}
        if isinstance(tree, (tuple, torch.Size)):
            return tuple(self._arguments(x) for x in tree)
        if isinstance(tree, (list, types.GeneratorType)):
            return [self._arguments(x) for x in tree]
        if isinstance(tree, slice):
            return slice(*(self._arguments(x) for x in (tree.start, tree.stop, tree.step)))
        if isinstance(tree, range):
            return list(tree)
        if isinstance(tree, np.generic):
            return tree.item()
        if isinstance(tree, np.ndarray):
            return self._node(torch.from_numpy(tree))
        raise TraceError(
            user_line() or "forward",
            seen=f"a {type(tree).__name__} among the arguments of a torch function or leaf module",
            expected="tensors, numbers, strings, and lists, tuples and dictionaries of them",
            remedy="make the module around it a leaf: td_transform.register_operator(TheModule, ...)",
        )

    def _size_node(self, expression: Any, value: Any) -> Any:
        """A size's node; sizes of an earlier recording (from a user's cache) are mere numbers."""
        if not isinstance(expression, Expression):
            return expression
        if expression.observer is not self:
            return value
        if expression.node is None:
            if expression.target == "size":
                kind, args = "call_method", expression.args
            else:
                kind = "call_function"
                args = tuple(
                    self._size_node(x, None) if isinstance(x, Expression) else x
                    for x in expression.args
                )
            expression.node = self._create(kind, expression.target, args, {})
            self.values[expression.node] = self._size_value(expression)
        return expression.node

    def _size_value(self, expression: Expression) -> Any:
        args = [self.values[a] if isinstance(a, fx.Node) else a for a in expression.node.args]
        if expression.target == "size":
            return args[0].shape[args[1]]
        return expression.target(*args)

    def _device_node(self) -> fx.Node:
        """Whatever runs on the meta device here runs on the image's device in the graph."""
        if self._device is None:
            image = next(iter(self.graph.nodes))
            with self.graph.inserting_after(image):
                self._device = self.graph.call_function(getattr, (image, "device"))
            self.values[self._device] = META
        return self._device


class _Intercepted:
    """Stands in for the forward of one module of the skeleton."""

    def __init__(self, recorder: Recorder, path: str, module: nn.Module) -> None:
        self.recorder, self.path, self.module = recorder, path, module
        self.forward = module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.recorder.call_module(self.module, self.path, self.forward, args, kwargs)


def describe(value: Any) -> Any:
    """A value of the recording without its memory: shapes for tensors."""
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunction():
            return TensorInfo(tuple(value.shape), value.dtype)
    if isinstance(value, Mapping):
        return {k: describe(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(describe(v) for v in value)
    return plain(value)


def _containers(module: nn.Module) -> list[Any]:
    """What a forward can leave its traces in: a module's attributes, and the tables among them."""
    return [vars(module), *(v for v in vars(module).values() if isinstance(v, (dict, list, set)))]


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


def _version(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return 0 if tensor.is_inference() else tensor._version


def _memory_of(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from _tensors(value)


def _mapped(tree: Any, convert: Callable[[Any], Any], kinds: Any = Tensor) -> Any:
    if isinstance(tree, kinds):
        return convert(tree)
    if isinstance(tree, Mapping):
        return {k: _mapped(v, convert, kinds) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)) and tree:
        return _rebuilt(tree, [_mapped(v, convert, kinds) for v in tree])
    return tree


def _rebuilt(container: Any, items: list[Any]) -> Any:
    """A tuple, list or named tuple of that kind."""
    if isinstance(container, torch.Size):
        return container
    if hasattr(container, "_fields"):
        return type(container)(*items)
    return type(container)(items)
