"""Functions that don't report themselves to torch's function modes, heard by its dispatcher."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from td_transform.trace.recorder import Recorder


class EscapedFunctions(TorchDispatchMode):
    """Hands operators to a recorder that it hasn't seen: those inside of scripted functions."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._recorder.operator(func, _public(func), args, kwargs or {})


def _public(operator: Any) -> Any:
    """``torch.sigmoid`` for ``aten.sigmoid.default``; the operator itself where torch has no such."""
    namespace, _, name = operator._schema.name.partition("::")
    if namespace != "aten":
        return operator
    return getattr(torch, name, None) or getattr(torch._C._nn, name, operator)
