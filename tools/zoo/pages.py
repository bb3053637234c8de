"""``python -m tools.zoo.pages``: many libraries' tables on one page, from their files of rows.

What stands above the page's marker is written by hand and stays; below it is a section for every
library that has rows, in the order of `LIBRARIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from tools.zoo.libraries import LIBRARIES
from tools.zoo.sweep import read
from tools.zoo.table import page

MARKER = "<!-- What follows is written by python -m tools.zoo.pages -->"


@dataclass(frozen=True)
class Arguments:
    """Where to read and write.

    Args:
        rows: the folder of rows, a file for each library, named after it.
        page: the page; it has the marker.
    """

    rows: Path = Path("results", "zoo")
    page: Path = Path("docs", "zoo_others.md")


def main(arguments: Arguments) -> None:
    """Write the page anew below its marker."""
    by_hand = arguments.page.read_text().partition(MARKER)[0]
    sections = list(_sections(arguments.rows))
    arguments.page.write_text("\n".join([f"{by_hand}{MARKER}\n", *sections]))


def _sections(rows: Path) -> Iterator[str]:
    for name, library in LIBRARIES.items():
        if found := read(rows / f"{name}.jsonl"):
            command = (
                f"python -m tools.zoo --library {name} --per-family 1 "
                "--arrangement td uniform reversed"
            )
            yield _as_section(page(library, list(found.values()), command), name)


def _as_section(text: str, name: str) -> str:
    """A page as a part of another: its headings a level lower, each with the library's name."""
    text = re.sub(r"^## (.*)$", rf"## \1 ({name})", text, flags=re.MULTILINE)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE).replace("s's models", "s' models", 1)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
