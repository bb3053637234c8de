"""What a package's modules offer: a new file is found, and no list names it."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def offered(package: ModuleType, attribute: str) -> list[Any]:
    """A module-level value of every module of a package that has it, in the modules' order.

    Args:
        package: whose modules are imported.
        attribute: the value's name.
    """
    names = (found.name for found in pkgutil.iter_modules(package.__path__))
    modules = (importlib.import_module(f"{package.__name__}.{name}") for name in names)
    return [getattr(module, attribute) for module in modules if hasattr(module, attribute)]
