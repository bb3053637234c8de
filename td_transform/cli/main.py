"""The command `td-transform`: convert a model, see what it costs and what its neurons see."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from td_transform.cli.choices import REGISTRY
from td_transform.cli.convert import convert
from td_transform.cli.rf import rf
from td_transform.errors import TopDownError

_DESCRIPTION = "Turn bottom-up CNNs into the top-down networks of Lelekas et al. (2020)."


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with code 2 where a model can't be converted.

    Args:
        args: the arguments; those that the process was started with by default.

    Example:
        >>> main(["convert", "resnet18", "--input-size", "3", "64", "64"])  # doctest: +SKIP
    """
    app = tyro.extras.SubcommandApp()
    for command in (convert, rf):
        app.command(command)
    try:
        with REGISTRY:
            app.cli(prog="td-transform", description=_DESCRIPTION, args=args)
    except TopDownError as error:
        print("td-transform:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
