"""The emitted module: a `torch.fx.GraphModule` that knows its plan."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

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

    def __deepcopy__(self, memo: dict[int, Any]) -> TopDownNetwork:
        root = nn.Module()
        for name, child in self.named_children():
            root.add_module(name, copy.deepcopy(child, memo))
        graph = fx.Graph()
        output = graph.graph_copy(self.graph, val_map={})
        graph.output(output)
        twin = TopDownNetwork(root, graph, self.plan, self.level_ends)
        twin.training = self.training
        return twin
