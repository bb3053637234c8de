"""The real data sets of ../shared, unpacked as torchvision lays them out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.shared_data import PAPER

UNPACKED = ("mnist", "fashion-mnist")


def unpack(folder: Path, *names: str) -> Path:
    """Lay out some of the sets in a folder; it is returned."""
    script = PAPER.parent / "data" / "unpack.py"
    subprocess.run([sys.executable, str(script), str(folder), *names], check=True)
    return folder
