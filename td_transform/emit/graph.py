"""Emit: the graph of a top-down network."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from td_transform.analyse import BottomUp
from td_transform.emit.build import LayerBuilder
from td_transform.emit.layouts import Layouts
from td_transform.emit.tree import ModuleTree
from td_transform.errors import ConversionError, TopDownError, first_line
from td_transform.layers import InputFront
from td_transform.layers.axes import STANDARD
from td_transform.layers.dimensions import DIMENSIONS
from td_transform.operators import node_operator
from td_transform.operators.reshaping import in_any_memory
from td_transform.plan import (
    Drop,
    LayerPlan,
    LevelPlan,
    NodePlan,
    OwnPlan,
    Part,
    Plan,
    PoolTo,
    SegmentPlan,
    UnitPlan,
    Upsampled,
    UpsamplePlan,
)
from td_transform.trace import replaced


class GraphWriter:
    """Writes the graph level by level, and grows the tree of the modules that it calls.

    Args:
        bottom_up: the analysed bottom-up model that the plan was made from.
        plan: what to write.
    """

    def __init__(self, bottom_up: BottomUp, plan: Plan) -> None:
        self._bottom_up = bottom_up
        self._trace = bottom_up.trace
        self._plan = plan
        self._builder = LayerBuilder(bottom_up.trace, plan)
        self.tree = ModuleTree(bottom_up.trace, plan, self._builder)
        self._sources = {n.name: n for n in self._trace.graph.nodes}
        self._upsampled: dict[tuple[str, fx.Node], fx.Node] = {}
        self._pooled: dict[tuple[str, fx.Node], fx.Node] = {}
        self._pool_sizes: dict[str, tuple[int | None, ...]] = {}
        self._likes: list[fx.Node] = []
        # what ended with class tokens last
        self._tokens: fx.Node | None = None
        self.graph = fx.Graph()
        self._layouts = Layouts(self.graph)
        self.level_ends: list[str] = []

    def write(self) -> None:
        images = self.graph.placeholder("images")
        shape = torch.Size(self._trace.values[self._bottom_up.layout.image].shape)
        pyramid = self._builder.pyramid(self._plan.levels, shape, self._preprocess())
        front = self._front()
        image = images if front is None else self._call("front", lambda: front, images)
        levels = self._call("pyramid", lambda: self.tree.own(pyramid), image)
        self.tree.root.add_module("levels", nn.ModuleList())
        current: fx.Node | None = None
        for i, level in enumerate(self._plan.levels):
            image = self.graph.create_node(
                "call_function", operator.getitem, (levels, i), name=f"level_{i}_image"
            )
            current = self._level(level, image, current)
            self.level_ends.append(current.name)
        last = _present(current)
        self.graph.output(self._segment(self._plan.head, last, like=last))
        self._layouts.drop_unread(self.level_ends)

    def _preprocess(self) -> nn.Module | None:
        """What stands between the image and the first learned layer, as a module of its own."""
        trace, image = self._trace, self._bottom_up.layout.image
        start = next(iter(trace.graph.nodes))
        if image is start:
            return None
        graph = fx.Graph()
        placed = {start: graph.placeholder("image")}
        for node in self._bottom_up.trunk.between(start, image):
            placed[node] = graph.node_copy(node, lambda n: placed[n])
        graph.output(placed[image])
        return self.tree.carried(graph, "Preprocess")

    def _front(self) -> nn.Module | None:
        """What makes the image of the model's input, where that is none."""
        front = self._trace.front
        if front is None:
            return None
        return InputFront(self.tree.carried(front.graph, "Front"), len(front.input_size) - 1)

    def _level(self, level: LevelPlan, image: fx.Node, current: fx.Node | None) -> fx.Node:
        lift = self._unit(level.lift, image) if level.lift is not None else None
        # of the level's size, which is all that is asked of it
        like = image if lift is None else lift
        self._likes.append(like)
        for part in level.transition:
            current = self._part(part, _present(current), like=like)
        if level.merge is not None:
            merge = level.merge
            make = lambda: self.tree.fresh(self._builder.merge(merge))  # noqa: E731
            current = self._call(f"{level.path}.merge", make, _present(current), _present(lift))
        elif lift is not None:
            current = lift
        for part in level.stage:
            current = self._part(part, _present(current), like=like)
        return _present(current)

    def _part(self, part: Part, x: fx.Node, *, like: fx.Node) -> fx.Node:
        if isinstance(part, (UnitPlan, OwnPlan)):
            return self._unit(part, x)
        if isinstance(part, UpsamplePlan):
            return self._upsample(part, x, like)
        return self._segment(part, x, like=like)

    # Modules

    def _call(
        self,
        name: str,
        make: Callable[[], nn.Module],
        *inputs: Any,
        under: str = "",
        **options: Any,
    ) -> fx.Node:
        """Call the module of that name, made on first use."""
        self.tree.add(name, make, under=under)
        return self.graph.call_module(name, inputs, options)

    def _unit(self, plan: UnitPlan | OwnPlan, x: fx.Node) -> fx.Node:
        return self._call(plan.name, lambda: self.tree.fresh(self._builder.lift(plan)), x)

    def _upsample(self, plan: UpsamplePlan, x: fx.Node, like: fx.Node) -> fx.Node:
        """Paths that need the same tensor at the finer resolution share its upsampling."""
        if (plan.name, x) not in self._upsampled:
            make = lambda: self.tree.fresh(self._builder.upsample(plan))  # noqa: E731
            self._upsampled[plan.name, x] = self._call(plan.name, make, x, like)
        return self._upsampled[plan.name, x]

    # Segments

    def _segment(self, plan: SegmentPlan, start: fx.Node, *, like: fx.Node) -> fx.Node:
        """Copy a stretch of the bottom-up graph."""
        tokens = None if plan.new_tokens else self._tokens
        placed = {self._sources[plan.start]: self._layouts.as_copied(start, plan.axes_in, tokens)}
        constants = self._bottom_up.trunk.constants
        self._place_read_layers(plan)
        for node in plan.nodes:
            source = self._sources[node.node]
            if source in constants and isinstance(node.change, Drop):
                continue
            try:
                if node.asks is None:
                    placed[source] = self._node(plan, node, source, placed, like)
                else:
                    placed[source] = self.graph.call_method("size", (start, node.asks))
            except TopDownError:
                raise
            except Exception as error:
                raise self._unwritable(source, error) from error
            placed[source].meta.setdefault("bottom_up", source.name)
        end = placed[self._sources[plan.end]]
        if plan.axes_out.ahead:
            self._tokens = end
        return self._layouts.standard(end, plan.axes_out, like)

    def _place_read_layers(self, plan: SegmentPlan) -> None:
        """A layer whose parameters are read before it is called stands where they are read."""
        read = [node.tensor.name for node in plan.nodes if node.tensor is not None]
        for node in plan.nodes:
            if node.layer is not None and any(n.startswith(f"{node.layer.name}.") for n in read):
                self._place(node, node.layer, plan.prefix)

    def _place(self, plan: NodePlan, layer: LayerPlan, under: str) -> None:
        make = lambda: self.tree.layer(layer, size_preserving=plan.size_preserving)  # noqa: E731
        self.tree.add(layer.name, make, under=under)

    def _finer(self, upsample: UpsamplePlan, x: fx.Node, like: fx.Node, source: fx.Node) -> fx.Node:
        """An upsampling of a tensor that is laid out as the bottom-up one is."""
        axes = self._bottom_up.trunk.axes(source) or STANDARD
        if axes.is_standard:
            return self._upsample(upsample, x, like)
        coarse = self._layouts.standard(x, axes, self._likes[-2])
        return self._layouts.as_copied(self._upsample(upsample, coarse, like), axes, x)

    def _unwritable(self, source: fx.Node, error: Exception) -> ConversionError:
        return ConversionError(
            self._trace.place(source),
            seen=first_line(error),
            expected="a node that can be written at the planned widths and strides",
            remedy="register the module around it with td_transform.register_operator, so that it "
            "is carried along whole",
        )

    def _node(
        self,
        segment: SegmentPlan,
        plan: NodePlan,
        source: fx.Node,
        placed: dict[fx.Node, fx.Node],
        like: fx.Node,
    ) -> fx.Node:
        if plan.tensor is not None:
            self.tree.tensor(plan.tensor, under=segment.prefix)
            return self.graph.get_attr(plan.tensor.name)
        match plan.change:
            case Drop(takes=takes):
                return self._taken(takes, source, placed)
            case Upsampled(where="instead", upsample=upsample, takes=takes):
                taken = self._taken(takes, source, placed)
                return self._finer(upsample, taken, like, self._sources.get(takes or "", source))
            case Upsampled(where="before", upsample=upsample):
                first = source.all_input_nodes[0]
                finer = self._finer(upsample, placed[first], like, first)
                return self._copied(segment, plan, source, {**placed, first: finer})
            case Upsampled(upsample=upsample):
                copied = self._copied(segment, plan, source, placed)
                return self._finer(upsample, copied, like, source)
            case PoolTo(where="instead", size=size):
                first = next(n for n in source.all_input_nodes if n in placed)
                return self._pool_to(segment, size, placed[first], like, first)
            case PoolTo(size=size):
                first = source.all_input_nodes[0]
                pooled = self._pool_to(segment, size, placed[first], like, first)
                return self._copied(segment, plan, source, {**placed, first: pooled})
        return self._copied(segment, plan, source, placed)

    def _taken(self, name: str | None, source: fx.Node, placed: dict[fx.Node, fx.Node]) -> fx.Node:
        """The tensor of that name, else the node's own first input."""
        if name is not None:
            return placed[self._sources[name]]
        return next(placed[n] for n in source.all_input_nodes if n in placed)

    def _pool_to(
        self,
        segment: SegmentPlan,
        size: tuple[int | None, ...],
        x: fx.Node,
        like: fx.Node,
        source: fx.Node,
    ) -> fx.Node:
        """A pooled map that is laid out as the bottom-up one is; all that read it share it."""
        axes = self._bottom_up.trunk.axes(source) or STANDARD
        kind: Any = DIMENSIONS[len(size)].adaptive_pool
        name = self.tree.free(f"{segment.prefix}.pool")
        while self._pool_sizes.setdefault(name, size) != size:
            name = self.tree.free(f"{name}_")
        if (name, x) not in self._pooled:
            pooled = self._call(name, lambda: kind(size), self._layouts.standard(x, axes, like))
            self._pooled[name, x] = self._layouts.as_copied(pooled, axes, x)
        return self._pooled[name, x]

    def _copied(
        self, segment: SegmentPlan, plan: NodePlan, source: fx.Node, placed: dict[fx.Node, fx.Node]
    ) -> fx.Node:
        # what asks for the shape of an earlier tensor asks the one that flows in
        first = placed[self._sources[segment.start]]
        args, kwargs = fx.node.map_arg((source.args, source.kwargs), lambda n: placed.get(n, first))
        for path, value in plan.literals:
            if path[0] in kwargs:
                kwargs = replaced(kwargs, path, value)
            else:
                args = replaced(args, path, value)
        layer = plan.layer
        if layer is not None:
            self._place(plan, layer, segment.prefix)
            return self.graph.call_module(layer.name, args, kwargs)
        name, known = self.tree.free(f"{segment.prefix}.{source.name}"), node_operator(source, None)
        if known is not None and known.as_module is not None:
            call = self._bottom_up.trunk.call(source)
            follows, given = known.as_module(call), [placed.get(n, first) for n in call.tensors]
            if follows is not None:
                return self._call(name, lambda: follows, *given)
        if plan.size_preserving and known is not None and known.without_stride is not None:
            instead = known.without_stride(self._bottom_up.trunk.call(source))
            if isinstance(instead, nn.Module):
                return self._call(name, lambda: instead, args[0])
            for (option, position), value in instead.items():
                if position < len(args):
                    args = replaced(args, (position,), value)
                else:
                    kwargs = {**kwargs, option: value}
        target = in_any_memory(source.target, args, kwargs)
        return self.graph.create_node(source.op, target, args, kwargs)


def _present(node: fx.Node | None) -> fx.Node:
    if node is None:
        raise ConversionError(
            "argument 'plan'", seen="a first level that starts from a coarser one",
            expected="a first level without a transition", remedy="build the plan as it was made",
        )  # fmt: skip
    return node
