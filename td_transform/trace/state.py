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

    def restore(self) -> None:
        """Put back what was changed, added or taken away."""
        for container, items in self._saved:
            if not container and not items:
                continue
            container.clear()
            if isinstance(container, list):
                container.extend(items)
            else:
                container.update(items)


def _containers(module: nn.Module) -> list[Any]:
    return [vars(module), *(v for v in vars(module).values() if isinstance(v, (dict, list, set)))]


def _items(container: Any) -> tuple[Any, ...]:
    return tuple(container.items() if isinstance(container, dict) else container)
