"""Colours and progress: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from td_transform.cli import terminal
from td_transform.cli.terminal import has_colours, painted, progress

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_text_is_painted_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert painted("word", "red", Terminal()) == "\x1b[1;31mword\x1b[0m"
    assert painted("word", "red", io.StringIO()) == "word"
    monkeypatch.setenv("TERM", "dumb")
    assert painted("word", "red", Terminal()) == "word"


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("", True)])
def test_no_color_is_respected(value: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    assert has_colours(Terminal()) is coloured


def test_what_takes_long_is_told_and_wiped_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.0)
    monkeypatch.setattr(terminal, "_PERIOD", 0.01)
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with progress("counting"):
        until = time.monotonic() + 10
        while "counting, 0 s" not in stream.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    told = stream.getvalue().split("\r\x1b[K")
    assert told[1] == "counting, 0 s"
    assert told[-1] == ""


def test_what_is_quick_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with progress("counting"):
        pass
    assert stream.getvalue() == ""


def test_a_script_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with progress("counting"):
        time.sleep(0.02)
    assert stream.getvalue() == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize(("no_color", "escapes"), [("", True), ("1", False)])
def test_the_help_in_a_real_terminal(no_color: str, escapes: bool) -> None:
    main_end, program_end = pty.openpty()
    command = [sys.executable, "-m", "td_transform", "--help"]
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=program_end, stderr=program_end, env=environment
    ) as program:
        os.close(program_end)
        shown = b""
        while block := _read(main_end):
            shown += block
        assert program.wait(60) == 0
    os.close(main_end)
    assert b"td-transform convert resnet18" in shown
    assert (b"\x1b[" in shown) is escapes


def _read(end: int) -> bytes:
    try:
        return os.read(end, 4096)
    except OSError:  # Linux's end of a terminal whose program has ended
        return b""
