"""``python -m tools.zoo --library timm``: convert a library's models, and write rows and a table.

Rows go to a file of JSON lines, one a model; a run that was stopped goes on where it stopped. The
table in Markdown is made from all rows of that file.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import tyro

from td_transform.options import Arrangement
from tools.zoo.libraries import LIBRARIES
from tools.zoo.sweep import read, sampled, sweep
from tools.zoo.table import page


@dataclass(frozen=True)
class Arguments:
    """What to convert.

    Args:
        library: whose models.
        arrangement: which arrangements.
        filter: names of models, with wildcards; all without one.
        family: families of models, with wildcards; all without one.
        per_family: how many of every family, 0 for all.
        real: also train every network a step on values.
        retry: convert again what gave an error before.
        jobs: processes.
        rows: the file of rows; by default the library's own in results/zoo/.
        table: write the page of all rows to this file.
    """

    library: str = "torchvision"
    arrangement: tuple[Arrangement, ...] = ("td",)
    filter: tuple[str, ...] = ("*",)
    family: tuple[str, ...] = ("*",)
    per_family: int = 0
    real: bool = False
    retry: bool = False
    jobs: int = 1
    rows: Path | None = None
    table: Path | None = None


def main(arguments: Arguments) -> None:
    """Convert what has no row yet, then write the table."""
    library = LIBRARIES[arguments.library]
    wanted = {
        name: family
        for name, family in library.families().items()
        if _matches(name, arguments.filter) and _matches(family, arguments.family)
    }
    names = sampled(wanted, arguments.per_family)
    suffix = "_real" if arguments.real else ""
    path = arguments.rows or Path("results", "zoo", f"{library.name}{suffix}.jsonl")
    sweep(
        library.name, names, arguments.arrangement, path,
        real=arguments.real, retry=arguments.retry, jobs=arguments.jobs,
    )  # fmt: skip
    if arguments.table is not None:
        arguments.table.write_text(page(library, list(read(path).values()), _command(arguments)))


def _command(arguments: Arguments) -> str:
    """What was typed, less where it went."""
    typed = ["python -m tools.zoo --library", arguments.library]
    for name in ("arrangement", "filter", "family", "per_family", "real"):
        value = getattr(arguments, name)
        if value != getattr(Arguments, name):
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            typed += [f"--{name.replace('_', '-')}", *map(str, values)]
    return " ".join(typed)


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(text, pattern) for pattern in patterns)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
