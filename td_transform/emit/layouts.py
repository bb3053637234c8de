"""Emit: maps between the standard layout of what is new and the layouts that copies read."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from td_transform.layers.axes import STANDARD, MapAxes, laid_out, standard


class Layouts:
    """Changes of layout in a graph; one that only undoes another isn't written.

    Args:
        graph: where the changes are written.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        # by the standard map: the tensor that it was made of, and how that is laid out
        self._originals: dict[fx.Node, tuple[fx.Node, MapAxes]] = {}

    def as_copied(self, x: fx.Node, axes: MapAxes, tokens: fx.Node | None = None) -> fx.Node:
        """A map in the layout that a copy reads, with the class tokens of another tensor."""
        if axes.is_standard:
            return x
        original, own = self._originals.get(x, (x, STANDARD))
        if own == axes:
            return original
        more = (axes.ahead, tokens) if axes.ahead else ()
        return self._graph.call_function(laid_out, (x, axes.channels, axes.positions, *more))

    def standard(self, x: fx.Node, axes: MapAxes, like: fx.Node) -> fx.Node:
        """A copy's map as (N, C, H, W) again; `like` is one of its size."""
        if axes.is_standard:
            return x
        more = (axes.ahead,) if axes.ahead else ()
        made = self._graph.call_function(standard, (x, like, axes.channels, axes.positions, *more))
        self._originals[made] = x, axes
        return made

    def drop_unread(self, kept: Collection[str]) -> None:
        """Erase the standard maps that nothing reads, but for those of these names."""
        for node in reversed(self._graph.nodes):
            if node.target is standard and not node.users and node.name not in kept:
                self._graph.erase_node(node)
