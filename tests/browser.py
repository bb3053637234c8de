"""A real browser without a window, as a reader of the report has it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """What came of opening a page.

    Args:
        dom: the document after its scripts, as HTML.
        console: what the page wrote to the console, errors among it.
    """

    dom: str
    console: tuple[str, ...]


def executable() -> str:
    """The browser on PATH.

    Raises:
        RuntimeError: there is none.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise RuntimeError(f"none of {', '.join(NAMES)} is on PATH: install Debian's chromium")


def visit(page: Path, profile: Path, *, width: int = 1280) -> Visit:
    """Open a page and return what it became.

    Args:
        page: an HTML file.
        profile: a fresh folder for the browser's own files.
        width: of the window, in pixels.
    """
    ran = _run(
        page, profile, f"--window-size={width},900", "--enable-logging=stderr",
        "--virtual-time-budget=5000", "--dump-dom",
    )  # fmt: skip
    console = tuple(line for line in ran.stderr.splitlines() if "CONSOLE" in line)
    return Visit(ran.stdout, console)


def screenshot(page: Path, profile: Path, out: Path, *, width: int, height: int) -> Path:
    """A picture of the top of a page."""
    _run(page, profile, f"--window-size={width},{height}", f"--screenshot={out}")
    return out


def _run(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [executable(), *FLAGS, f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
