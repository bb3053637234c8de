"""How a process computes: precision, determinism, threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.runs.jobs import Precision


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """On a GPU: TensorFloat-32 products in here for `tf32` and `bf16`, true float32 for `float32`.

    `bf16` needs `torch.autocast` around the forward pass besides.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee" if precision == "float32" else "tf32"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def make_deterministic() -> None:
    """The same numbers for the same seed on the same machine, for the rest of the process."""
    # cuBLAS reads it when it is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # a user's own network may use an operator that has no deterministic form: a warning names it
    torch.use_deterministic_algorithms(True, warn_only=True)
    # memory is never read before it is written here; filling it first only takes time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
