"""Libraries whose models are the functions and classes of a module, one each."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from td_transform.torchvision_cpu import import_torchvision

Size = tuple[int, ...]


@dataclass(frozen=True)
class Builders:
    """Functions or classes that build a classifier each.

    Args:
        module: where they are to be had.
        names: a regular expression that their names match.
        options: what they are called with.
        size: (C, H, W) of their images, or of as many axes as these have.
        suffix: what tells their models from those of other options.
    """

    module: str
    names: str = ".*"
    options: Mapping[str, Any] = field(default_factory=dict)
    size: Size = (3, 224, 224)
    suffix: str = ""

    def families(self) -> dict[str, str]:
        """A family is the module that its builders are written in."""
        return {
            f"{name}{self.suffix}": builder.__module__.split(".")[-1] + self.suffix
            for name, builder in self._all().items()
        }

    def build(self, name: str) -> nn.Module:
        """The model of that name."""
        model: nn.Module = self._all()[name.removesuffix(self.suffix)](**self.options)
        return model

    def _all(self) -> dict[str, Callable[..., Any]]:
        import_torchvision()
        module = importlib.import_module(self.module)
        package = self.module.split(".")[0]
        return {
            name: value
            for name, value in vars(module).items()
            if (inspect.isfunction(value) or inspect.isclass(value))
            and re.fullmatch(self.names, name)
            and value.__module__.split(".")[0] == package
        }
