"""What a person sees and a script doesn't: colours and progress, where there is a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

Style = Literal["bold", "yellow", "red"]

_CODES: dict[Style, str] = {"bold": "1", "yellow": "33", "red": "1;31"}
_ERASE = "\r\x1b[K"
# seconds before something is said, and between two times
_PATIENCE, _PERIOD = 2.0, 0.5


def understands_codes(stream: TextIO) -> bool:
    """Is it a terminal that moves its cursor?"""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colours(stream: TextIO) -> bool:
    """A terminal, unless its user wants none (https://no-color.org)."""
    return understands_codes(stream) and not os.environ.get("NO_COLOR")


def painted(text: str, style: Style, stream: TextIO) -> str:
    """The text in a style on a terminal, and as it is anywhere else."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if has_colours(stream) else text


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says on a terminal's stderr what takes so long, and for how many seconds it has.

    Args:
        what: is being done.
    """
    if not understands_codes(sys.stderr):
        yield
        return
    done = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, done, sys.stderr), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(what: str, done: threading.Event, stream: TextIO) -> None:
    start = time.monotonic()
    if done.wait(_PATIENCE):
        return
    while not done.is_set():
        print(f"{_ERASE}{what}, {time.monotonic() - start:.0f} s", end="", file=stream, flush=True)
        done.wait(_PERIOD)
    print(_ERASE, end="", file=stream, flush=True)
