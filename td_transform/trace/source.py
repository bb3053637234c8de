"""Lines of the user's own code: in neither torch's installation nor this package."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType

import torch

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_FOLDERS = tuple(os.path.realpath(folder) + os.sep for folder in (*torch.__path__, _PACKAGE))
_RECORDER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "recorder.py")


@functools.cache
def is_users(filename: str) -> bool:
    """Does a file lie outside torch and this package? Asks for folders, so any name will do."""
    return not filename.startswith("<") and not os.path.realpath(filename).startswith(_FOLDERS)


def user_frames() -> Iterator[FrameType]:
    """The user's frames of the forward that runs now, from the innermost."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _starts_the_forward(frame):
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def _starts_the_forward(frame: FrameType) -> bool:
    """Is it the recorder's own frame? What called that is no part of the model."""
    code = frame.f_code
    return code.co_name == "run" and os.path.realpath(code.co_filename) == _RECORDER


def user_line() -> str:
    """The user's line that runs now, as file:line; empty where none of the model's code is hers."""
    frame = next(user_frames(), None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def failed_line(tb: TracebackType | None) -> str:
    """The innermost of the user's lines in a traceback."""
    lines = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(tb)]
    own = [f"{name}:{line}" for name, line in lines if is_users(name)]
    return own[-1] if own else "source unknown"
