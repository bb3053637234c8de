"""The command `td-transform`: convert a model, see what it costs and what its neurons see."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

import tyro

from td_transform.cli.choices import REGISTRY
from td_transform.cli.convert import convert
from td_transform.cli.report import report
from td_transform.cli.rf import rf
from td_transform.cli.terminal import has_colours, painted
from td_transform.errors import TopDownError

_DESCRIPTION = """Turn bottom-up CNNs into the top-down networks of Lelekas et al. (2020).

For instance:
    td-transform convert resnet18 --output-stride 4
    td-transform rf resnet18 --topdown --plot rf.png
    td-transform report timm:resnet26 -o resnet26.html

Each command's --help has more.

Tab completion, for bash here (or zsh, fish, tcsh):
    td-transform --tyro-print-completion bash >> ~/.bash_completion

Exit codes:
    0  done
    1  a defect of td-transform
    2  it can't be done, and the message says why
    130, 141  stopped by Ctrl-C, or by a reader that left

NO_COLOR=1 turns colours off, TD_TRANSFORM_TRACEBACK=1 shows an error's Python traceback."""

_COMMANDS: tuple[Callable[..., None], ...] = (convert, rf, report)
_TRACEBACK = "TD_TRANSFORM_TRACEBACK"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one message and an exit code, as the help says.

    Args:
        args: the arguments; those that the process was started with by default.

    Raises:
        SystemExit: with the exit code, for anything but success.

    Example:
        >>> main(["convert", "resnet18", "--input-size", "3", "64", "64"])  # doctest: +SKIP
    """
    try:
        try:
            _run(sys.argv[1:] if args is None else args)
        finally:
            sys.stdout.flush()  # a closed pipe is seen now
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        # the interpreter flushes once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        _tell(_explained(error))
        raise SystemExit(2 if isinstance(error, (TopDownError, OSError)) else 1) from None


def _run(args: Sequence[str]) -> None:
    tyro._experimental_options["ansi_codes"] = has_colours(sys.stdout) and has_colours(sys.stderr)
    app = tyro.extras.SubcommandApp()
    for command in _COMMANDS:
        # the list of commands has their first lines, each one's own help the examples too
        chosen = command.__name__ in args[:1]
        summary = (command.__doc__ or "").partition("\n")[0]
        app.command(command) if chosen else app.command(help=summary)(command)
    with REGISTRY:
        app.cli(prog="td-transform", description=_DESCRIPTION, args=args)


def _explained(error: Exception) -> str:
    """One line, with the place in the code where nothing else says where."""
    if isinstance(error, (TopDownError, OSError)):
        return " ".join(str(error).split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} (in {last.filename}, line {last.lineno})"
    return f"{' '.join(text.split())}; {_TRACEBACK}=1 shows the whole traceback"


def _tell(message: str) -> None:
    print(painted("td-transform:", "red", sys.stderr), message, file=sys.stderr)
