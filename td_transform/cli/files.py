"""Files that a command writes."""

from __future__ import annotations

from pathlib import Path

from td_transform.errors import TopDownError


def check_folder(file: Path | None) -> None:
    """Before the work is done."""
    if file is not None and not file.parent.is_dir():
        raise TopDownError(
            f"file '{file}'", seen=f"no folder '{file.parent}'", expected="a folder that is there",
            remedy="create the folder, or name another",
        )  # fmt: skip
