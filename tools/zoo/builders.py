"""Libraries whose models are the functions of a module, one each."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from td_transform.torchvision_cpu import import_torchvision


@dataclass(frozen=True)
class Builders:
    """Functions that build a classifier each.

    Args:
        module: where they are to be had.
        names: a regular expression that their names match.
        options: what they are called with.
    """

    module: str
    names: str = ".*"
    options: Mapping[str, Any] | None = None

    def families(self) -> dict[str, str]:
        """A family is the module that its builders are written in."""
        return {name: builder.__module__.split(".")[-1] for name, builder in self._all().items()}

    def build(self, name: str) -> nn.Module:
        """The model of that name."""
        model: nn.Module = self._all()[name](**(self.options or {}))
        return model

    def _all(self) -> dict[str, Callable[..., nn.Module]]:
        import_torchvision()
        module = importlib.import_module(self.module)
        package = self.module.split(".")[0]
        return {
            name: value
            for name, value in vars(module).items()
            if inspect.isfunction(value)
            and re.fullmatch(self.names, name)
            and value.__module__.split(".")[0] == package
        }
