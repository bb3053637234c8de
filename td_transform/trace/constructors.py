"""Torch's first types of tensors, ``torch.FloatTensor``: their constructors report to no function mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from td_transform.trace.sizes import Size
from td_transform.trace.writer import META

_lock = threading.Lock()
_recordings = 0
_NAMES = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")
_KINDS = [
    (holder, f"{name}Tensor", getattr(holder, f"{name}Tensor"))
    for holder in (torch, torch.cuda)
    for name in _NAMES
]


@contextmanager
def reported_constructors() -> Iterator[None]:
    """While this lasts, they run as ``torch.empty``, which is recorded, where they are given sizes of a
    recording; what else they are given is theirs."""
    global _recordings
    with _lock:
        _recordings += 1
        setattr(Tensor, "__new__", _new)  # noqa: B010
        for holder, name, kind in _KINDS:
            setattr(holder, name, _Constructor(kind))
    try:
        yield
    finally:
        with _lock:
            _recordings -= 1
            if not _recordings:
                delattr(Tensor, "__new__")
                for holder, name, kind in _KINDS:
                    setattr(holder, name, kind)


def dtype_of(kind: Any) -> Any:
    """The dtype of ``torch.FloatTensor``, or of that name; the device is the image's."""
    if isinstance(kind, str):
        name = kind.rpartition(".")[2]
        return next((known.dtype for _, other, known in _KINDS if other == name), kind)
    return getattr(kind, "dtype", kind)


def name_of(dtype: torch.dtype) -> str:
    """What ``x.type()`` says of a tensor on a CPU."""
    return next((f"torch.{name}" for _, name, kind in _KINDS if kind.dtype is dtype), str(dtype))


class _Constructor:
    """Stands in for ``torch.FloatTensor`` and its kin, which can't be subclassed."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (
            _empty(args, self._kind.dtype) if _are_recorded(args) else self._kind(*args, **kwargs)
        )

    def __instancecheck__(self, instance: Any) -> bool:
        recorded = (
            isinstance(instance, Tensor) and instance.is_meta and self._kind.__module__ == "torch"
        )
        return isinstance(instance, self._kind) or (recorded and instance.dtype is self._kind.dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)


def _new(cls: Any, *args: Any, **kwargs: Any) -> Any:
    if cls is Tensor and _are_recorded(args):
        return _empty(args, torch.get_default_dtype())
    return super(Tensor, cls).__new__(cls, *args, **kwargs)


def _empty(sizes: tuple[Any, ...], dtype: torch.dtype) -> Tensor:
    """On the image's device, where a forward for one device or the other has it."""
    return torch.empty(*sizes, dtype=dtype, device=META)


def _are_recorded(args: tuple[Any, ...]) -> bool:
    sizes = args[0] if len(args) == 1 and isinstance(args[0], torch.Size) else args
    return any(isinstance(size, Size) for size in sizes)
