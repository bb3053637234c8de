"""The paper's numbers and oracles: `tests/data`, whose README says where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")
ORACLES = DATA / "oracle"


def table1() -> dict[str, Any]:
    models: dict[str, Any] = json.loads((DATA / "table1.json").read_text())["models"]
    return models
