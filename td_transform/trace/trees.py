"""Tensors inside of lists, tuples and dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from td_transform.operators import TensorInfo
from td_transform.trace.sizes import plain


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors of it, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)


def has_tensors(tree: Any) -> bool:
    return next(tensors(tree), None) is not None


def mapped(tree: Any, convert: Callable[[Any], Any], kinds: Any = Tensor) -> Any:
    """The same tree with what is of these kinds converted."""
    if isinstance(tree, kinds):
        return convert(tree)
    if isinstance(tree, Mapping):
        return {k: mapped(v, convert, kinds) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)) and tree:
        return rebuilt(tree, [mapped(v, convert, kinds) for v in tree])
    return tree


def rebuilt(container: Any, items: list[Any]) -> Any:
    """A tuple, list or named tuple of that kind, with these items."""
    if isinstance(container, torch.Size):
        return container
    if hasattr(container, "_fields"):
        return type(container)(*items)
    return type(container)(items)


def replaced(tree: Any, path: Sequence[str | int], value: Any) -> Any:
    """The same tree with another value at a place; a slice has its parts by name. A number that stands
    for a list of one takes the place of what the list holds."""
    if not path:
        return value
    first, *rest = path
    if isinstance(tree, slice):
        return slice(*replaced(parts(tree), path, value).values())
    if isinstance(tree, Mapping):
        return {**tree, first: replaced(tree[first], rest, value)}
    if not isinstance(tree, (tuple, list)):
        return replaced(tree, rest, value)
    items = list(tree)
    items[int(first)] = replaced(items[int(first)], rest, value)
    return items if isinstance(tree, list) else tuple(items)


def parts(places: slice) -> dict[str, Any]:
    """What a slice is made of, by name."""
    return {"start": places.start, "stop": places.stop, "step": places.step}


def describe(value: Any) -> Any:
    """A value without its memory: shapes for tensors."""
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunction():
            return TensorInfo(tuple(value.shape), value.dtype)
    if isinstance(value, Mapping):
        return {k: describe(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(describe(v) for v in value)
    return plain(value)
