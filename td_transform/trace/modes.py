"""The mode of a module, ``self.training``, while its forward is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Mode(int):
    """Passes for a boolean, and says that a forward branches on it.

    Args:
        training: the mode.
        switched: called at every branch.
    """

    switched: Callable[[], None]

    def __new__(cls, training: bool, switched: Callable[[], None]) -> Mode:
        mode = super().__new__(cls, training)
        mode.switched = switched
        return mode

    def __bool__(self) -> bool:
        self.switched()
        return int.__int__(self) != 0

    def __deepcopy__(self, memo: Any) -> bool:
        return int.__int__(self) != 0


def settled(value: Any) -> Any:
    """An ordinary boolean for a mode: what torch's functions are given says nothing of branches."""
    return int.__int__(value) != 0 if isinstance(value, Mode) else value
