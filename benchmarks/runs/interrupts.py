"""Ctrl-C and SIGTERM, held back while something must not be torn apart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The process was asked to end; `exit_code` is the shell's for this signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _State:
    held = 0
    pending: int | None = None


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Interrupted` in here; outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Within `interruptible`: what arrives in here is raised at the end of the block."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if not _State.held and _State.pending is not None:
            number, _State.pending = _State.pending, None
            raise Interrupted(number)


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Processes started in here don't see Ctrl-C until they are `interruptible` themselves.

    A terminal sends it to all processes, also to one that is still importing.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def pending() -> int:
    """The number of a signal that is held back; 0 where there is none."""
    return _State.pending or 0


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _State.held:
        _State.pending = number
    else:
        raise Interrupted(number)
