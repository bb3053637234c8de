"""Where the paper's numbers and oracles lie: ../shared beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAPER = Path(__file__).resolve().parents[2] / "shared" / "paper"


def table1() -> dict[str, Any]:
    models: dict[str, Any] = json.loads((PAPER / "table1.json").read_text())["models"]
    return models
