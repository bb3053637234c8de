"""Numbers that a forward makes of the batch's size with `int()`, which no recording can follow.

Recordings that differ in the batch alone show them: where one has 2 k, others have 4 k and 6 k.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx

from td_transform.trace.trees import parts, replaced
from td_transform.trace.writer import GraphWriter

_Path = tuple[str | int, ...]


def write_batch(writer: GraphWriter, batch: int, others: Mapping[int, GraphWriter]) -> bool:
    """Write multiples of the batch's size as what they are.

    Args:
        writer: of the recording that is changed.
        batch: its images.
        others: recordings of the same forward at the same image size, by the number of images.

    Returns:
        False, and nothing is changed, where the recordings differ in anything else.
    """
    nodes = list(writer.graph.nodes)
    multiples: dict[tuple[fx.Node, _Path], int] = {}
    for images, other in others.items():
        twins = dict(zip(other.graph.nodes, nodes, strict=False))
        if len(other.graph.nodes) != len(nodes):
            return False
        for twin, node in twins.items():
            for path, mine, its in _differences((node.args, node.kwargs), (twin.args, twin.kwargs)):
                if isinstance(its, fx.Node) and twins[its] is mine:
                    continue
                if type(mine) is not int or type(its) is not int:
                    return False
                if mine % batch or mine * images != its * batch:
                    return False
                multiples[node, path] = mine // batch
    sizes = {times: _size(writer, batch, times) for times in sorted(set(multiples.values()))}
    for (node, path), times in multiples.items():
        node.args, node.kwargs = replaced((node.args, node.kwargs), path, sizes[times])
    return True


def _differences(mine: Any, its: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any, Any]]:
    """Where two trees of arguments differ; nodes always do."""
    if isinstance(mine, slice) and isinstance(its, slice):
        mine, its = parts(mine), parts(its)
    if isinstance(mine, Mapping) and isinstance(its, Mapping) and list(mine) == list(its):
        for key, value in mine.items():
            yield from _differences(value, its[key], (*path, key))
    elif isinstance(mine, (tuple, list)) and isinstance(its, (tuple, list)):
        if len(mine) != len(its):
            yield path, mine, its
        for i, (left, right) in enumerate(zip(mine, its, strict=False)):
            yield from _differences(left, right, (*path, i))
    elif isinstance(its, fx.Node) or (mine != its and not (mine != mine and its != its)):
        yield path, mine, its


def _size(writer: GraphWriter, batch: int, times: int) -> fx.Node:
    """The batch's size, or a multiple of it, behind the image."""
    graph = writer.graph
    image = next(iter(graph.nodes))
    with graph.inserting_after(image):
        size = graph.call_method("size", (image, 0))
    writer.values[size] = batch
    if times == 1:
        return size
    with graph.inserting_after(size):
        product = graph.call_function(operator.mul, (size, times))
    writer.values[product] = batch * times
    return product
