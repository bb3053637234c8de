"""Files that nobody ever sees a part of, whenever the writing process ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch


def replace_file(path: Path, content: bytes) -> None:
    """Write bytes."""
    with _replacing(path) as file:
        file.write(content)


def save_file(path: Path, value: Any) -> None:
    """Write what `torch.load(path, weights_only=True)` reads: tensors, numbers, text, containers."""
    with _replacing(path) as file:
        torch.save(value, file)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
