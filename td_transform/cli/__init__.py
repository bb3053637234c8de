"""The command line: `td-transform`."""

from __future__ import annotations

from td_transform.cli.main import main
from td_transform.cli.model_names import load_model

__all__ = ["load_model", "main"]
