"""Where two recordings of a model depart from each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from td_transform.errors import TopDownError
from td_transform.trace.recorder import Recorder


def difference_between(first: Recorder, second: Recorder) -> str | None:
    """Where another recording departs from the first, None where they are the same graph."""
    twins: dict[fx.Node, fx.Node] = {}
    for left, right in zip(first.writer.graph.nodes, second.writer.graph.nodes, strict=False):
        twins[right] = left
        if (left.op, _name(left)) != (right.op, _name(right)):
            return _branch(first, second) or f"other operators from {_where(left)} on"
        if len(_flat(left)) != len(_flat(right)):
            return f"a list of another length in {_where(left)}"
        for mine, its in zip(_flat(left), _flat(right), strict=True):
            if mine != twins.get(its, its) if isinstance(its, fx.Node) else not _same(mine, its):
                return f"{mine!r} ({its!r} there) in {_where(left)}"
    if len(first.writer.graph.nodes) != len(second.writer.graph.nodes):
        return _branch(first, second) or "other operators at the end"
    return None


def _name(node: fx.Node) -> str:
    """Constants that the forward brings along may have other values, under the same name."""
    return str(getattr(node.target, "__qualname__", node.target))


def _branch(first: Recorder, second: Recorder) -> str | None:
    """The first branch on a size that went another way."""
    for (line, mine), (other_line, its) in zip(first.decisions, second.decisions, strict=False):
        if line != other_line:
            return None
        if mine != its:
            return f"a branch on a size, {mine} ({its} there) at {line}"
    return None


def _where(node: fx.Node) -> str:
    source = node.meta.get("source")
    return f"'{node.name}' ({source})" if source else f"'{node.name}'"


def _same(mine: Any, its: Any) -> bool:
    return type(mine) is type(its) and bool(mine == its or mine != mine)


def _flat(node: fx.Node) -> list[Any]:
    """Arguments in order, with the names of keywords."""
    found: list[Any] = []

    def visit(tree: Any) -> None:
        if isinstance(tree, slice):
            visit((tree.start, tree.stop, tree.step))
        elif isinstance(tree, Mapping):
            for key, value in tree.items():
                found.append(key)
                visit(value)
        elif isinstance(tree, (tuple, list)):
            for value in tree:
                visit(value)
        else:
            found.append(tree)

    visit((node.args, node.kwargs))
    return found


def compared(first: Recorder, run: Callable[[], Recorder]) -> str | None:
    """Where another recording departs, or what there fails."""
    try:
        return difference_between(first, run())
    except TopDownError as error:
        return f"the model itself fails there, in {error.place}"
