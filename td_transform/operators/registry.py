"""The one place that knows operators: per operator its role, channel coupling and spatial window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import fx, nn

from td_transform.errors import TopDownError
from td_transform.operators.dimensions import Dims, Spatial, TensorInfo, Window
from td_transform.operators.widths import Variable, Width, Widths
from td_transform.taps import Reach

Role = Literal[
    "conv",  # learned, slides over the map, sets its own width
    "linear",  # learned, acts on the channels only
    "norm",
    "activation",
    "pool",  # slides over the map, not learned
    "collapse",  # global or adaptive pooling, flattening: the map loses its stride
    "inert",  # dropout, identity, layout changes
    "resample",  # a map's values at other places
    "combine",  # addition, concatenation, multiplication of branches
    "index",  # sizes and arithmetic on them
    "opaque",  # unknown: carried along as it stands
]


# the mean counts each part by its positions
Gathering = Literal["mean", "sum", "max", "min"]

# values of arguments, each by its name and its position
Arguments = Mapping[tuple[str, int], Any]


@dataclass
class Inference:
    """What the channel rules find out about a piece of graph.

    Args:
        widths: the widths and their equations.
        dims: the symbolic dimensions of every tensor.
        sizes: per layer the widths that its parameters depend on.
        literals: per node the integers in its arguments that are widths, by place.
        opaque: the nodes that no rule could follow, and why.
        pins: what opaque nodes fix: the node, the width, and its bottom-up value.
        maps: the maps that were met, by their sizes: what stands at their axes.
        tokens: the widths of tables that are no channels, but tokens beside a map's positions.
        follows_positions: do reshapes that mix a map's axes with others have rules of their own?
    """

    widths: Widths = field(default_factory=Widths)
    dims: dict[fx.Node, Any] = field(default_factory=dict)
    sizes: dict[fx.Node, dict[str, Width]] = field(default_factory=dict)
    literals: dict[fx.Node, dict[tuple[str | int, ...], Width]] = field(default_factory=dict)
    opaque: dict[fx.Node, str] = field(default_factory=dict)
    pins: list[tuple[fx.Node, Width, int]] = field(default_factory=list)
    maps: dict[tuple[int, ...], tuple[Spatial, ...]] = field(default_factory=dict)
    tokens: set[Width] = field(default_factory=set)
    follows_positions: bool = False

    def tokens_of(self, count: int) -> Width:
        """That many tokens, which are told from a batch or a width that is as large."""
        tokens = self.widths.variable(Variable("", f"{count} tokens"), count)
        self.widths.equate(tokens, Width.of(count))
        self.tokens.add(tokens)
        return tokens


@dataclass(frozen=True)
class Call:
    """One node of the graph as a rule sees it: a module, function or method with its arguments."""

    node: fx.Node
    module: nn.Module | None
    inference: Inference
    values: Mapping[fx.Node, Any]

    def option(self, name: str, position: int, default: Any = None) -> Any:
        """A module's attribute of that name, or the function's argument."""
        if self.module is not None:
            return getattr(self.module, name, default)
        if name in self.node.kwargs:
            return self.node.kwargs[name]
        return self.node.args[position] if len(self.node.args) > position else default

    def number(self, name: str, position: int, default: Any = None) -> Any:
        """Like `option`, with the sizes that the model computes itself made concrete."""
        return fx.node.map_arg(self.option(name, position, default), lambda n: self.values[n])

    @property
    def input(self) -> fx.Node:
        argument = self.node.args[0] if self.node.args else next(iter(self.node.kwargs.values()))
        if isinstance(argument, (tuple, list)):
            argument = argument[0]
        return argument  # type: ignore[return-value]

    def dims(self, argument: Any = None) -> Dims:
        """The symbolic dimensions of an argument (by default the first)."""
        dims: Dims = self.inference.dims[self.input if argument is None else argument]
        return dims

    def shape(self, argument: Any = None) -> tuple[int, ...]:
        """The concrete shape of an argument (by default the first) at the traced input size."""
        info: TensorInfo = self.values[self.input if argument is None else argument]
        return info.shape

    @property
    def batch(self) -> int:
        """The number of images in the trace."""
        return self._image.shape[0]

    @property
    def axes(self) -> int:
        """How many axes the image has: 1 of a line, 2 of a picture, 3 of a volume."""
        return len(self._image.shape) - 2

    @property
    def _image(self) -> TensorInfo:
        image: TensorInfo = next(iter(self.values.values()))
        return image

    @property
    def tensors(self) -> list[fx.Node]:
        return [n for n in self.node.all_input_nodes if isinstance(self.values.get(n), TensorInfo)]

    @property
    def name(self) -> str:
        """Stands for the layer: the module's path, so that two calls of one module share widths."""
        return str(self.node.target) if self.module is not None else self.node.name

    @property
    def is_depthwise(self) -> bool:
        """Does a convolution have a group of its own for every channel that it reads?"""
        return bool(1 < int(self.number("groups", 6, 1)) == self.shape()[1])

    def stays(self, shape: tuple[int, ...], place: int) -> bool:
        """Does a size of the output stand there in what is read, too, as a width or a number? It is
        no axis then that is as large by chance."""
        return any(
            len(self.dims(tensor)) == len(shape)
            and isinstance(self.dims(tensor)[place], Width)
            and self.shape(tensor)[place] == shape[place]
            for tensor in self.tensors
        )

    @property
    def adds(self) -> bool:
        """Is it a sum of two tensors, position by position?"""
        return self._combines == "sum" and len(self.tensors) == 2

    @property
    def multiplies(self) -> bool:
        """Is it a product of its arguments, position by position?"""
        return self._combines == "product"

    @property
    def _combines(self) -> str | None:
        operator = node_operator(self.node, self.module)
        return operator.combines if operator is not None else None

    def window(self) -> Window:
        """The operator's sliding window; a single position where it has none."""
        operator = node_operator(self.node, self.module)
        return operator.window(self) if operator and operator.window else Window()

    def size(self, **sizes: Width) -> None:
        """Record the widths that this layer's parameters depend on; calls of one module agree."""
        widths = self.inference.widths
        for key, width in sizes.items():
            widths.define(Variable(self.name, key), width)
        self.inference.sizes[self.node] = sizes

    def literal(self, path: tuple[str | int, ...], width: Width) -> None:
        """Record that the integer at that place of the arguments is this width."""
        self.inference.literals.setdefault(self.node, {})[path] = width


@dataclass(frozen=True)
class Operator:
    """What the compiler has to know of an operator.

    Args:
        name: how it is called in tables.
        role: what it is for.
        infer: the symbolic dimensions of its output; equates the widths that have to agree.
        window: its sliding window; None for operators that look at single positions.
        resize: gives a copied module new widths (those that `infer` recorded with `Call.size`).
        reach: what its output positions read of the input map, for receptive fields; None for
            operators that look at single positions.
        keeps_shape: is its output shaped like its first input, whatever it computes? It isn't run
            to find out, so a module that could not run on the meta device is welcome.
        channels: does it `join` tensors along the channels, `part` or `index` them? For receptive
            fields, which then keep the parts apart.
        without_stride: for a function: what runs instead of it at stride 1 with an output as large
            as its input, a module or other arguments.
        as_module: for a function whose mode tracing freezes: the module that follows the network's;
            None where this call of it follows none.
        gathers: for a reduction: what the result on a whole map is of those on its parts.
        combines: is it the sum or the product of its arguments, position by position?
    """

    name: str
    role: Role
    infer: Callable[[Call], Any]
    window: Callable[[Call], Window] | None = None
    resize: Callable[[Any, Mapping[str, int]], None] | None = None
    reach: Callable[[Call], Reach] | None = None
    keeps_shape: bool = False
    channels: Literal["join", "part", "index"] | None = None
    without_stride: Callable[[Call], nn.Module | Arguments] | None = None
    as_module: Callable[[Call], nn.Module | None] | None = None
    gathers: Gathering | None = None
    combines: Literal["sum", "product"] | None = None


_operators: dict[Any, Operator] = {}


def register_operator(
    target: Any, operator: Operator | None = None, *, like: Any = None, role: Role | None = None
) -> None:
    """Teach the compiler an operator.

    Args:
        target: a module class (its subclasses follow), a function, the name of a tensor method, or
            the dotted name of a class that should not be imported for this.
        operator: its rules.
        like: instead of rules: a target known already that couples channels the same way.
        role: with `like`: the role, where it differs.

    Raises:
        TopDownError: `like` is not known itself, or `operator` is none.

    Example:
        >>> from torch import nn
        >>> class Gate(nn.Module):
        ...     def forward(self, x):
        ...         return x if x.sum() > 0 else -x
        >>> register_operator(Gate, like=nn.ReLU)
    """
    if operator is None:
        known = _operators.get(like)
        if known is None:
            raise TopDownError(
                "argument 'like'", seen=repr(like), expected="a target that the registry knows",
                remedy="name one of torch's own layers or functions that couples channels the same way, "
                "or give the operator's rules",
            )  # fmt: skip
        operator = replace(
            known, name=getattr(target, "__name__", str(target)), role=role or known.role
        )
    if not isinstance(operator, Operator):
        raise TopDownError(
            "argument 'operator'", seen=repr(operator), expected="an Operator",
            remedy="write its rule with operator_rule, or say what it is like with like=",
        )  # fmt: skip
    _operators[target] = operator


def operator_rule(
    target: Any, *, role: Role = "combine", **facts: Any
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Makes a function the rule of an operator: from a `Call` to its output's dimensions.

    Args:
        target: as for `register_operator`.
        role: what the operator is for.
        facts: further fields of its `Operator`.

    Example:
        >>> import torch
        >>> @operator_rule(torch.roll)
        ... def rolled(call):
        ...     return call.dims()
    """

    def decorate(rule: Callable[[Call], Any]) -> Callable[[Call], Any]:
        name = getattr(target, "__name__", str(target))
        register_operator(target, Operator(name, role, rule, **facts))
        return rule

    return decorate


def module_operator(module: nn.Module) -> Operator | None:
    """The rules of a module: those of the nearest class among its bases."""
    for cls in type(module).__mro__:
        operator = _operators.get(cls) or _operators.get(f"{cls.__module__}.{cls.__qualname__}")
        if operator is not None:
            return operator
    return None


def node_operator(node: fx.Node, module: nn.Module | None) -> Operator | None:
    """The rules of a node of the graph, None where the registry has none."""
    return module_operator(module) if module is not None else function_operator(node.target)


def function_operator(target: Any) -> Operator | None:
    """The rules of a function or method: its own, else those of the method or function of this name, or
    of the one that doesn't write into its tensor."""
    if (known := _operators.get(target)) is not None:
        return known
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if not isinstance(target, str) and getattr(torch, name, None) is not target:
        return None
    names = [name] if name.endswith("__") else [name, name.removesuffix("_")]
    twins = (twin for each in names for twin in (each, getattr(torch, each, None)))
    return next((_operators[twin] for twin in twins if twin in _operators), None)
