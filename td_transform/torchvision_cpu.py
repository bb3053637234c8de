"""Import torchvision where its compiled operators do not load.

A torchvision wheel linked against CUDA does not load its extension on a CPU-only torch, and the
import then stops at ``operator torchvision::nms does not exist``: torchvision attaches shape rules
to two detection operators that nobody declared. Classifiers use neither. Declaring the two names is
enough for everything written in Python to work; the compiled operators (``torchvision.ops.nms``,
``roi_align``...) still raise torchvision's own error when they are called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch
from torch.library import Library

__all__ = ["import_torchvision", "names_missing_operator"]

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# torch forgets a declaration once its Library object is collected.
_declarations: Library | None = None


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring the operators that a CPU-only torch leaves it without.

    Where ``import torchvision`` works by itself, this is that import and nothing more. Call it
    before importing a package that imports torchvision in turn, such as timm.

    Returns:
        The torchvision module.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision fails to load for another reason than these two operators.

    Example:
        >>> from td_transform.torchvision_cpu import import_torchvision
        >>> torchvision = import_torchvision()
        >>> torchvision.models.resnet18(num_classes=10).fc.out_features
        10
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not names_missing_operator(error):
            raise
    _forget_partial_import()
    _declare_missing_operators()
    return importlib.import_module("torchvision")


def names_missing_operator(error: RuntimeError) -> bool:
    """Is it what `import torchvision` ends with there?"""
    return any(f"torchvision::{name} does not exist" in str(error) for name in _OPERATORS)


def _forget_partial_import() -> None:
    # Submodules that stay would not be bound as attributes of the package imported anew.
    partial = [name for name in sys.modules if name.split(".")[0] == "torchvision"]
    for name in partial:
        del sys.modules[name]


def _declare_missing_operators() -> None:
    global _declarations
    # A fragment adds to the namespace without owning it: torch allows one owner, and another
    # package may have declared operators of its own there.
    _declarations = Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _declarations.define(name + _SCHEMA)
