"""The emitted module: a `torch.fx.GraphModule` that knows its plan."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import fx, nn
from torch.fx.graph import PythonCode

from td_transform.emit.recompute import Piece
from td_transform.emit.steps import run_steps, steps_of
from td_transform.plan import Plan


class TopDownNetwork(fx.GraphModule):
    """A top-down network (N, C, H, W) -> logits; trains, exports and copies like any module.

    Its input is one image tensor, or a sequence of one full-size image per pyramid level, from fine
    to coarse (paper, Fig. 5): ``td([x_fine, ..., x_coarse])``.

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
        super().__init__(root, graph, "TopDownNetwork")
        # GraphModule rebuilds the tree from the graph's targets; the root's own reads better
        for name in [name for name, _ in self.named_children()]:
            delattr(self, name)
        for name, child in root.named_children():
            self.add_module(name, child)
        self.plan = plan
        self.level_ends = level_ends

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
            output = str(self.graph.output_node().args[0])

            def forward(self: TopDownNetwork, images: Any) -> Any:
                return run_steps(self, steps, images, output)

            # a GraphModule's class is its instance's own
            type(self).forward = forward
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> TopDownNetwork:
        root = nn.Module()
        for name, child in self.named_children():
            root.add_module(name, copy.deepcopy(child, memo))
        graph = fx.Graph()
        output = graph.graph_copy(self.graph, val_map={})
        graph.output(output)
        twin = TopDownNetwork(root, graph, self.plan, self.level_ends)
        twin.training = self.training
        if pieces := self.__dict__.get("_pieces"):
            twin._pieces = pieces
            twin.recompile()
        return twin
