"""The page of several libraries: written below a marker, what stands above it stays."""

from __future__ import annotations

import json
from pathlib import Path

from tools.zoo.pages import MARKER, Arguments, main

GOOD = {"levels": [[2, 16], [1, 8]], "parameters": 2_000_000, "opaque": ["sinc"]}
BAD = {"error": "StructureError", "text": "node 'x': two maps", "reason": "two maps"}


def test_a_section_for_every_library_that_has_rows(tmp_path: Path) -> None:
    rows = [
        {"model": "a", "family": "a", "kind": "models", "td": BAD},
        {
            "model": "b",
            "family": "b",
            "kind": "models",
            "bottom_up": {"parameters": 1_000_000, "levels": [[1, 8], [2, 16]]},
            "td": GOOD,
        },
    ]
    (tmp_path / "torchvision.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    written = tmp_path / "page.md"
    written.write_text(f"# By hand\n\n{MARKER}\n\n## Old\n")
    main(Arguments(tmp_path, written))
    text = written.read_text()
    assert text.startswith(f"# By hand\n\n{MARKER}\n\n## torchvision's models")
    assert "Old" not in text
    assert "| td | models | 2 | 1 | 50.0% |" in text
    assert "\n### Refused (torchvision)\n" in text
    assert "| b | 1: 8, 2: 16 | sinc | 1.0 | 2.0 | – | – |" in text
    main(Arguments(tmp_path, written))
    assert written.read_text() == text
