"""Storages: which tensors share memory, told on the meta device too."""

from __future__ import annotations

import torch
from torch import Tensor


def storage_of(tensor: Tensor) -> int:
    """The address of a tensor's storage: tensors on the meta device have no data pointer."""
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)


class Storages:
    """The storages of tensors, kept alive so that no address is met twice.

    The tensors themselves aren't kept. One with a history, held by what watches the backward
    pass's saved tensors, would close a cycle through C++ that Python's garbage collector can't see:
    the network would never be freed. For the same reason such a watcher gives torch nothing back.

    Args:
        sizes: is given the bytes of every storage, by its address.
    """

    def __init__(self, sizes: dict[int, int] | None = None) -> None:
        self.sizes = {} if sizes is None else sizes
        self._alive: list[Tensor] = []

    def add(self, tensor: Tensor) -> int:
        """Takes a tensor's storage in, with its bytes, and gives its address."""
        address = storage_of(tensor)
        if address not in self.sizes:
            self.sizes[address] = tensor.untyped_storage().nbytes()
            self._alive.append(tensor.detach())
        return address


def not_kept(_: object) -> Tensor:
    """What a watcher of saved tensors gives back where no backward pass follows."""
    raise RuntimeError("these tensors were counted, not kept")
