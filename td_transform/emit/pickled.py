"""A graph as plain data, for pickles: fx itself traces a loaded module's code anew, which not every code
stands and which makes a plain `GraphModule` of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import fx


@dataclass(frozen=True)
class _Named:
    """Stands for the node of that name."""

    name: str


@dataclass(frozen=True)
class PickledNode:
    """A node; the nodes among its arguments are names."""

    op: str
    name: str
    target: Any
    args: Any
    kwargs: Any


def pickled(graph: fx.Graph) -> tuple[PickledNode, ...]:
    """The nodes of a graph, in order."""

    def name(x: Any) -> Any:
        return _Named(x.name) if isinstance(x, fx.Node) else x

    def named(tree: Any) -> Any:
        return fx.node.map_aggregate(tree, name)

    return tuple(
        PickledNode(n.op, n.name, n.target, named(n.args), named(n.kwargs)) for n in graph.nodes
    )


def unpickled(nodes: Iterable[PickledNode]) -> fx.Graph:
    """The graph of these nodes."""
    graph = fx.Graph()
    placed: dict[str, fx.Node] = {}

    def found(tree: Any) -> Any:
        return fx.node.map_aggregate(tree, lambda x: placed[x.name] if isinstance(x, _Named) else x)

    for each in nodes:
        args, kwargs = found(each.args), found(each.kwargs)
        placed[each.name] = graph.create_node(each.op, each.target, args, kwargs, each.name)
    return graph
