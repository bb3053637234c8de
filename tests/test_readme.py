"""What the documentation tells users to type runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if BLOCK.search(page.read_text())
)


def test_there_is_something_to_run() -> None:
    assert "README.md" in PAGES
    first = BLOCK.search((ROOT / "README.md").read_text())
    assert first
    assert re.search(r"^import torchvision$", first[1], re.MULTILINE)


# After the first line `import torchvision` works on a CPU-only torch too.
RUN = """
__import__("td_transform.torchvision_cpu").torchvision_cpu.import_torchvision()
import sys
for block in sys.argv[2:]:
    exec(compile(block, sys.argv[1], "exec"), globals())
"""


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_in_order(page: str, tmp_path: Path) -> None:
    """In a process of their own: they register operators."""
    text = (ROOT / page).read_text()
    # the same line numbers as in the page, for tracebacks
    blocks = [
        "\n" * text[: found.start(1)].count("\n") + found[1] for found in BLOCK.finditer(text)
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, page, *blocks], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
