"""What a forward leaves in its modules (caches, statistics, the last attention map), to undo it."""

from __future__ import annotations

from typing import Any

from torch import nn


class ModuleState:
    """The attributes of every module, and the tables among them, as they are now.

    Args:
        model: only the containers are remembered, the tensors in them are not copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._saved = [(c, _items(c)) for m in model.modules() for c in _containers(m)]
        self._attributes = {id(m): _items(vars(m)) for m in model.modules()}

    def is_changed(self, module: nn.Module) -> bool:
        """Has a forward given a module other numbers (a stride) than it had?"""
        saved = dict(self._attributes[id(module)])
        return any(
            isinstance(value, (int, float, str, tuple)) and saved.get(name) != value
            for name, value in vars(module).items()
            if name != "training"
        )

    def restore(self) -> None:
        """Put back what was changed, added or taken away."""
        for container, items in self._saved:
            if not container and not items:
                continue
            # the plain kind's own methods: a subclass may read its items its own way
            if isinstance(container, list):
                list.__setitem__(container, slice(None), items)
            elif isinstance(container, dict):
                dict.clear(container)
                dict.update(container, items)
            else:
                set.clear(container)
                set.update(container, items)


def _containers(module: nn.Module) -> list[Any]:
    return [vars(module), *(v for v in vars(module).values() if isinstance(v, (dict, list, set)))]


def _items(container: Any) -> tuple[Any, ...]:
    kind = next(kind for kind in (dict, list, set) if isinstance(container, kind))
    return tuple(dict.items(container) if kind is dict else kind.__iter__(container))
