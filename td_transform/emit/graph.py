"""Emit: a plan becomes a `torch.fx.GraphModule`."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from td_transform.analyse.stages import Structure
from td_transform.emit.build import Blueprint
from td_transform.emit.initialise import Init, inherit, materialise, redraw
from td_transform.emit.network import TopDownNetwork
from td_transform.layers import Pyramid, Scope
from td_transform.operators.resizing import preserve_size
from td_transform.plan.values import (
    LayerPlan,
    LevelPlan,
    NodePlan,
    Plan,
    SegmentPlan,
    UnitPlan,
    UpsamplePlan,
)

# Functions whose mode tracing has frozen, and the modules that follow the network's mode.
_DROPOUTS: dict[Any, Callable[..., nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout2d: nn.Dropout2d,
    F.alpha_dropout: nn.AlphaDropout,
    torch.dropout: nn.Dropout,
}


def emit(structure: Structure, plan: Plan, *, init: Init | None = None) -> TopDownNetwork:
    """Build the network of a plan.

    Args:
        structure: the analysed bottom-up model that the plan was made from.
        plan: what to build.
        init: called on every new module (`nn.Module.apply`) after its default initialisation.
    """
    network = _Emitter(structure, plan, init).network()
    network.train(structure.trace.model.training)
    return network


class _Emitter:
    """Writes the graph level by level; every module is made once, under its planned name."""

    def __init__(self, structure: Structure, plan: Plan, init: Init | None) -> None:
        self._structure = structure
        self._trace = structure.trace
        self._plan = plan
        self._init = init
        self._blueprint = Blueprint(structure.trace)
        self._sources = {n.name: n for n in self._trace.graph.nodes}
        self._root = nn.Module()
        self._graph = fx.Graph()
        first = next(self._trace.model.parameters(), None)
        self._device = first.device if first is not None else torch.device("cpu")

    def network(self) -> TopDownNetwork:
        images = self._graph.placeholder("images")
        strides = [level.stride for level in self._plan.levels]
        pyramid = Pyramid(strides, kind=self._plan.options.pyramid, preprocess=self._preprocess())
        levels = self._call("pyramid", lambda: pyramid, images)
        self._root.add_module("levels", nn.ModuleList())
        current: fx.Node | None = None
        for i, level in enumerate(self._plan.levels):
            image = self._graph.call_function(operator.getitem, (levels, i))
            current = self._level(level, image, current)
        if current is None:
            raise ValueError("a plan without levels")
        self._graph.output(self._segment(self._plan.head, current, like=current))
        return TopDownNetwork(self._root, self._graph, self._plan)

    def _preprocess(self) -> nn.Module | None:
        """What stands between the image and the first learned layer, as a module of its own."""
        trace, image = self._trace, self._structure.layout.image
        start = next(iter(trace.graph.nodes))
        if image is start:
            return None
        graph = fx.Graph()
        placed = {start: graph.placeholder("image")}
        for node in self._structure.anatomy.between(start, image):
            placed[node] = graph.node_copy(node, lambda n: placed[n])
        graph.output(placed[image])
        targets = {str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}
        modules = {target: copy.deepcopy(_get(trace.model, target)) for target in targets}
        return fx.GraphModule(modules, graph, "Preprocess")

    def _level(self, level: LevelPlan, image: fx.Node, current: fx.Node | None) -> fx.Node:
        lift = self._unit(level.lift, image)
        for part in level.transition:
            if isinstance(part, UnitPlan):
                current = self._unit(part, _present(current))
            elif isinstance(part, UpsamplePlan):
                current = self._upsample(part, _present(current), lift)
            else:
                current = self._segment(part, _present(current), like=lift)
        if level.merge is None:
            current = lift
        else:
            merge, kind = level.merge, self._plan.options.merge
            name = merge.name.removesuffix(".unit")
            make = lambda: self._fresh(self._blueprint.merge(merge, kind))  # noqa: E731
            current = self._call(name, make, _present(current), lift)
        for segment in level.stage:
            current = self._segment(segment, current, like=lift)
        return current

    # Modules

    def _call(
        self, name: str, make: Callable[[], nn.Module], *inputs: Any, **options: Any
    ) -> fx.Node:
        """Call the module of that name, made on first use."""
        self._place(name, make)
        return self._graph.call_module(name, inputs, options)

    def _place(self, name: str, make: Callable[[], nn.Module]) -> None:
        parent, path = self._root, ""
        *scopes, last = name.split(".")
        for scope in scopes:
            path = f"{path}.{scope}" if path else scope
            if scope not in parent._modules:
                parent.add_module(scope, Scope(self._shown_as(path)))
            parent = parent.get_submodule(scope)
        if last not in parent._modules:
            parent.add_module(last, make())

    def _shown_as(self, path: str) -> str:
        """The class of the bottom-up module that a scope stands for."""
        parts = path.split(".")
        if len(parts) == 2 and parts[0] == "levels":
            return "Level"
        own = ".".join(parts[3:] if parts[0] == "levels" else parts[1:])
        try:
            module = self._trace.skeleton.get_submodule(own) if own else None
        except AttributeError:
            module = None
        return type(module).__name__ if module is not None else parts[-1].capitalize()

    def _fresh(self, module: nn.Module, source: nn.Module | None = None) -> nn.Module:
        materialise(module, self._device, source=source)
        if self._init is not None:
            module.apply(self._init)
        return module

    def _unit(self, plan: UnitPlan, x: fx.Node) -> fx.Node:
        return self._call(plan.name, lambda: self._fresh(self._blueprint.unit(plan)), x)

    def _upsample(self, plan: UpsamplePlan, x: fx.Node, like: fx.Node) -> fx.Node:
        kind = self._plan.options.upsample
        make = lambda: self._fresh(self._blueprint.upsample(plan, kind))  # noqa: E731
        return self._call(plan.name, make, x, like)

    def _layer(self, plan: LayerPlan) -> nn.Module:
        source = self._trace.model.get_submodule(plan.source)
        module = self._blueprint.layer(plan)
        if plan.inherits and self._plan.options.weights == "inherit":
            inherit(module, source)
            return module
        return self._fresh(module, source)

    # Segments

    def _segment(self, plan: SegmentPlan, start: fx.Node, *, like: fx.Node) -> fx.Node:
        """Copy a stretch of the bottom-up graph."""
        placed = {self._sources[plan.start]: start}
        for node in plan.nodes:
            source = self._sources[node.node]
            if source.op == "get_attr" and node.action == "drop":
                continue
            placed[source] = self._node(plan, node, source, placed, like)
        return placed[self._sources[plan.end]]

    def _node(
        self,
        segment: SegmentPlan,
        plan: NodePlan,
        source: fx.Node,
        placed: dict[fx.Node, fx.Node],
        like: fx.Node,
    ) -> fx.Node:
        if source.op == "get_attr":
            return self._parameter(segment, plan, source)
        inputs = [placed[n] for n in source.all_input_nodes if n in placed]
        if plan.action == "drop":
            return inputs[0]
        if plan.action == "adaptive" and plan.map_size is not None:
            return self._pool_to(segment, plan, inputs[0])
        if plan.upsample is not None and plan.action == "up":
            return self._upsample(plan.upsample, inputs[0], like)
        if plan.upsample is not None and plan.action == "up-same":
            first = source.all_input_nodes[0]
            placed = {**placed, first: self._upsample(plan.upsample, placed[first], like)}
        if plan.action == "adaptive-before":
            first = source.all_input_nodes[0]
            placed = {**placed, first: self._pool_to(segment, plan, placed[first])}
        result = self._copied(segment, plan, source, placed)
        if plan.upsample is not None and plan.action == "same-up":
            return self._upsample(plan.upsample, result, like)
        return result

    def _pool_to(self, segment: SegmentPlan, plan: NodePlan, x: fx.Node) -> fx.Node:
        size = plan.map_size or (1, 1)
        return self._call(f"{segment.prefix}.pool", lambda: nn.AdaptiveAvgPool2d(size), x)

    def _copied(
        self, segment: SegmentPlan, plan: NodePlan, source: fx.Node, placed: dict[fx.Node, fx.Node]
    ) -> fx.Node:
        args, kwargs = fx.node.map_arg((source.args, source.kwargs), lambda n: placed[n])
        for path, value in plan.literals:
            args = _replaced(args, path, value)
        layer = plan.layer
        if layer is not None:
            return self._call(layer.name, lambda: self._layer(layer), *args, **kwargs)
        name = f"{segment.prefix}.{source.name}"
        if source.target in _DROPOUTS:
            rate = source.kwargs.get("p", source.args[1] if len(source.args) > 1 else 0.5)
            return self._call(name, lambda: _DROPOUTS[source.target](rate), args[0])
        if plan.action in ("same", "same-up", "up-same"):
            return self._size_preserving(name, source, args, kwargs)
        return self._graph.create_node(source.op, source.target, args, kwargs)

    def _size_preserving(self, name: str, source: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """A convolution or pooling that the forward calls as a function, without its stride."""
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        if self._structure.anatomy.role(source) == "conv":
            options = {**dict(zip(names, args, strict=False)), **kwargs}
            x, weight = options.pop("input"), options.pop("weight")
            options |= {"stride": 1, "padding": "same"}
            return self._graph.call_function(F.conv2d, (x, weight), options)
        average = "avg" in str(source.target)
        kernel = kwargs.get("kernel_size", args[1] if len(args) > 1 else None)
        pool = nn.AvgPool2d(kernel) if average else nn.MaxPool2d(kernel)
        return self._call(name, lambda: preserve_size(pool), args[0])

    def _parameter(self, segment: SegmentPlan, plan: NodePlan, source: fx.Node) -> fx.Node:
        """A parameter or buffer that the forward uses directly."""
        value = _get(self._trace.model, str(source.target))
        name = f"{segment.prefix}.{source.target}"
        *scopes, last = name.split(".")
        self._place(f"{'.'.join(scopes)}._", lambda: Scope())
        owner = self._root.get_submodule(".".join(scopes))
        delattr(owner, "_")
        if not hasattr(owner, last):
            owner_value = self._tensor(value, plan)
            if isinstance(value, nn.Parameter):
                owner.register_parameter(last, owner_value)  # type: ignore[arg-type]
            else:
                owner.register_buffer(last, owner_value)
        return self._graph.get_attr(name)

    def _tensor(self, value: torch.Tensor, plan: NodePlan) -> torch.Tensor:
        shape = plan.shape if plan.shape is not None else tuple(value.shape)
        parameter = isinstance(value, nn.Parameter)
        keeps = tuple(value.shape) == shape
        if keeps and (self._plan.options.weights == "inherit" and parameter):
            return value
        new = torch.empty(shape, dtype=value.dtype, device=self._device)
        if keeps and not parameter:
            new.copy_(value)
        else:
            redraw(new, value)
        return nn.Parameter(new) if parameter else new


def _present(node: fx.Node | None) -> fx.Node:
    if node is None:
        raise ValueError("the first level has no coarser one to start from")
    return node


def _get(model: nn.Module, target: str) -> Any:
    path, _, name = target.rpartition(".")
    return getattr(model.get_submodule(path), name)


def _replaced(args: Any, path: tuple[str | int, ...], value: int) -> Any:
    """Nested arguments with the integer at a place replaced."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(args, slice):
        bounds = {"start": args.start, "stop": args.stop, "step": args.step}
        bounds[str(first)] = value
        return slice(bounds["start"], bounds["stop"], bounds["step"])
    items = list(args) if isinstance(args, (tuple, list)) else [args]
    if not isinstance(args, (tuple, list)):
        return _replaced(args, rest, value)
    items[int(first)] = _replaced(items[int(first)], rest, value)
    return type(args)(items) if isinstance(args, list) else tuple(items)
