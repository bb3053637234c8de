"""The emitted modules: `torch.fx.GraphModule`s that know their plan."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import fx, nn
from torch.fx.graph import PythonCode

from td_transform.emit.other_sizes import bound_to_size
from td_transform.emit.pickled import PickledNode, pickled, unpickled
from td_transform.emit.recompute import Piece
from td_transform.emit.steps import run_steps, steps_of
from td_transform.errors import TopDownError
from td_transform.layers.images import short
from td_transform.plan import Plan

Planned = TypeVar("Planned", bound="PlannedModule")


class PlannedModule(fx.GraphModule):
    """A graph of a plan's levels, of which stretches may run again in the backward pass.

    Args:
        root: the modules, in the order in which they are read.
        graph: the graph that calls them.
        plan: what it was built from.
        level_ends: the node at which each level ends, from coarse to fine.
    """

    plan: Plan
    level_ends: tuple[str, ...]
    _pieces: tuple[tuple[str, ...], ...]

    def __init__(
        self, root: nn.Module, graph: fx.Graph, plan: Plan, level_ends: tuple[str, ...]
    ) -> None:
        super().__init__(root, graph, self._kind().__name__)
        # GraphModule rebuilds the tree from the graph's targets; the root's own reads better
        for name in [name for name, _ in self.named_children()]:
            delattr(self, name)
        for name, child in root.named_children():
            self.add_module(name, child)
        self.plan = plan
        self.level_ends = level_ends

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(images, *args, **kwargs)
        except TopDownError:
            raise
        except Exception as error:
            bound = bound_to_size(self, self.plan, self.level_ends, images, error)
            if bound is None:
                raise
            raise bound from error

    def recompute(self, pieces: Sequence[Piece]) -> None:
        """Run these stretches of the graph again in the backward pass, instead of keeping what
        they made; the graph stays as it is."""
        self._pieces = tuple(tuple(node.name for node in piece) for piece in pieces)
        self.recompile()

    def recompile(self) -> PythonCode:
        code = super().recompile()
        if pieces := self.__dict__.get("_pieces"):
            nodes = {node.name: node for node in self.graph.nodes}
            steps = steps_of(self.graph, [tuple(nodes[n] for n in piece) for piece in pieces])
            output = fx.node.map_arg(self.graph.output_node().args[0], lambda node: node.name)

            def forward(self: PlannedModule, images: Any) -> Any:
                return run_steps(self, steps, images, output)

            # a GraphModule's class is its instance's own
            type(self).forward = forward
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> PlannedModule:
        root = nn.Module()
        for name, child in self.named_children():
            root.add_module(name, copy.deepcopy(child, memo))
        graph = fx.Graph()
        graph.output(graph.graph_copy(self.graph, val_map={}))
        return self._over(self._kind(), root, graph)

    def __reduce__(self) -> Any:
        pieces = self.__dict__.get("_pieces", ())
        parts = (dict(self.named_children()), pickled(self.graph), self.plan, self.level_ends)
        return _restored, (self._kind(), *parts, self.training, pieces)

    @classmethod
    def _kind(cls) -> type[PlannedModule]:
        """The class as it is written here: before it stands the one that fx makes of an instance."""
        return cls.__mro__[1]

    def _over(self, kind: type[Planned], root: nn.Module, graph: fx.Graph) -> Planned:
        """A module of this one's plan, mode and recomputed stretches."""
        made = kind(root, graph, self.plan, self.level_ends)
        return _resumed(made, self.training, self.__dict__.get("_pieces", ()))


def _resumed(made: Planned, training: bool, pieces: tuple[tuple[str, ...], ...]) -> Planned:
    made.training = training
    if pieces:
        made._pieces = pieces
        made.recompile()
    return made


def _restored(
    kind: type[Planned],
    children: Mapping[str, nn.Module],
    nodes: Sequence[PickledNode],
    plan: Plan,
    level_ends: tuple[str, ...],
    training: bool,
    pieces: tuple[tuple[str, ...], ...],
) -> Planned:
    """The module that a pickle holds."""
    root = nn.Module()
    for name, child in children.items():
        root.add_module(name, child)
    return _resumed(kind(root, unpickled(nodes), plan, level_ends), training, pieces)


class TopDownNetwork(PlannedModule):
    """A top-down network (N, C, H, W) -> logits; trains, exports and copies like any module.

    Its input is one image tensor, or a sequence of one full-size image per pyramid level, from fine
    to coarse (paper, Fig. 5): ``td([x_fine, ..., x_coarse])``.
    """

    def backbone(self) -> TopDownBackbone:
        """The levels without the head, for another task; the modules are this network's own.

        Example:
            >>> import torch
            >>> from td_transform import to_topdown
            >>> bu = nn.Sequential(
            ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
            ... )
            >>> backbone = to_topdown(bu, input_size=(1, 28, 28)).backbone()
            >>> [tuple(map_.shape) for map_ in backbone(torch.rand(2, 1, 28, 28))]
            [(2, 16, 14, 14), (2, 8, 28, 28)]
        """
        graph = fx.Graph()
        placed: dict[fx.Node, fx.Node] = {}
        ends: list[fx.Node] = []
        for node in self.graph.nodes:
            placed[node] = graph.node_copy(node, lambda n: placed[n])
            if node.name in self.level_ends:
                ends.append(placed[node])
            if len(ends) == len(self.level_ends):
                break
        graph.output(tuple(ends))
        called = {str(node.target).split(".")[0] for node in graph.nodes}
        root = nn.Module()
        for name, child in self.named_children():
            if name in called:
                root.add_module(name, child)
        return self._over(TopDownBackbone, root, graph)


class TopDownBackbone(PlannedModule):
    """The levels of a top-down network: images (N, C, H, W) -> their maps, from coarse to fine.

    A level of stride f has a map (N, width, ceil(H / f), ceil(W / f)); `strides` and `widths` are
    in the order of the maps.
    """

    @property
    def strides(self) -> tuple[int | tuple[int, ...], ...]:
        """Input pixels per step of each map: along every axis, or one each."""
        return tuple(short(level.strides) for level in self.plan.levels)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each map."""
        return tuple(level.width for level in self.plan.levels)


def check_topdown(td: object) -> None:
    """What was converted, and nothing around it.

    Raises:
        TopDownError: it is no `TopDownNetwork`.
    """
    if not isinstance(td, TopDownNetwork):
        raise TopDownError(
            "argument 'td'", seen=f"a {type(td).__name__}", expected="a TopDownNetwork",
            remedy="pass what to_topdown returned, not its backbone or a wrapper around it: `.module` "
            "of a DistributedDataParallel, the network that torch.compile was given",
        )  # fmt: skip
