"""What a forward leaves in its modules (caches, statistics, the last attention map), to undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Leftover:
    """An attribute of a module that isn't what it was, or an item of one.

    Args:
        path: the module's.
        name: the attribute's, or the item's in a dictionary.
        before, after: its values; a list's and a set's are all that they hold. None where there was none.
        is_held: is it a parameter or buffer, which the state dictionary has?
        put_back: gives the module the value that it was left with.
    """

    path: str
    name: str
    before: Any
    after: Any
    is_held: bool
    put_back: Callable[[], None]


class ModuleState:
    """The attributes of every module, and the tables among them, as they are now.

    Args:
        model: only the containers are remembered, the tensors in them are not copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.named_modules())
        self._saved = [(c, _items(c)) for _, m in self._modules for _, c in _containers(m)]
        self._attributes = {id(m): _items(vars(m)) for _, m in self._modules}

    def is_changed(self, module: nn.Module) -> bool:
        """Has a forward given a module other numbers (a stride) than it had?"""
        saved = dict(self._attributes[id(module)])
        return any(
            isinstance(value, (int, float, str, tuple)) and saved.get(name) != value
            for name, value in vars(module).items()
            if name != "training"
        )

    def leftovers(self) -> Iterator[Leftover]:
        """What has been changed or added since; the modules' modes and forwards aside."""
        saved = {id(container): items for container, items in self._saved}
        for path, module in self._modules:
            for name, container in _containers(module):
                before = saved.get(id(container))
                if before is None:
                    continue
                if isinstance(container, dict):
                    is_held = container is module._parameters or container is module._buffers
                    yield from _items_left_over(path, container, dict(before), is_held=is_held)
                elif not _same(before, now := _items(container)):
                    yield Leftover(path, name, before, now, False, _fill(container, now))

    def restore(self) -> None:
        """Put back what was changed, added or taken away."""
        for container, items in self._saved:
            if container or items:
                _fill(container, items)()


def _items_left_over(
    path: str, table: dict[str, Any], before: dict[str, Any], *, is_held: bool
) -> Iterator[Leftover]:
    for name, value in dict.items(table):
        if name not in ("forward", "training") and before.get(name) is not value:
            put_back = _setter(table, name, value)
            yield Leftover(path, str(name), before.get(name), value, is_held, put_back)


def _setter(table: dict[str, Any], name: str, value: Any) -> Callable[[], None]:
    return lambda: dict.__setitem__(table, name, value)


def _fill(container: Any, items: tuple[Any, ...]) -> Callable[[], None]:
    """Gives a container these items; by the plain kind's own methods, a subclass may have others."""

    def fill() -> None:
        if isinstance(container, list):
            list.__setitem__(container, slice(None), items)
        elif isinstance(container, dict):
            dict.clear(container)
            dict.update(container, items)
        else:
            set.clear(container)
            set.update(container, items)

    return fill


def _same(mine: tuple[Any, ...], its: tuple[Any, ...]) -> bool:
    return len(mine) == len(its) and all(map(lambda a, b: a is b, mine, its))


def _containers(module: nn.Module) -> list[tuple[str, Any]]:
    kinds = (dict, list, set)
    attributes = ((n, v) for n, v in vars(module).items() if isinstance(v, kinds))
    return [("", vars(module)), *attributes]


def _items(container: Any) -> tuple[Any, ...]:
    kind = next(kind for kind in (dict, list, set) if isinstance(container, kind))
    return tuple(dict.items(container) if kind is dict else kind.__iter__(container))
