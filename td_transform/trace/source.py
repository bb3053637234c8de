"""Where in the user's code something stands."""

from __future__ import annotations

from pathlib import Path

import torch

_LIBRARIES = (Path(torch.__file__).resolve().parent, Path(__file__).resolve().parents[1])


def is_users(file: str) -> bool:
    """Is a source file neither torch's nor this package's?"""
    return not any(Path(file).resolve().is_relative_to(folder) for folder in _LIBRARIES)
