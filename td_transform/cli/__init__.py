"""The command line: `td-transform`."""

from __future__ import annotations

from td_transform.cli.commands import main

__all__ = ["main"]
