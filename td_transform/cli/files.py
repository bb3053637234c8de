"""What a command needs before it starts: folders to write into, libraries to do it with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from td_transform.errors import TopDownError


def check_folder(file: Path | None) -> None:
    """Before the work is done."""
    if file is not None and not file.parent.is_dir():
        raise TopDownError(
            f"file '{file}'", seen=f"no folder '{file.parent}'", expected="a folder that is there",
            remedy="create the folder, or name another",
        )  # fmt: skip


def check_libraries(purpose: str, extra: str, *libraries: str) -> None:
    """Those of an extra, before the work is done.

    Args:
        purpose: what they are needed for.
        extra: of the package, which brings them.
        libraries: their names.
    """
    missing = [library for library in libraries if importlib.util.find_spec(library) is None]
    if missing:
        raise TopDownError(
            purpose, seen=f"{' and '.join(missing)} not installed",
            expected=f"{' and '.join(libraries)}", remedy=f"pip install 'td-transform[{extra}]'",
        )  # fmt: skip
