"""What a new file in a package adds, without a list that names it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.experiments import EXPERIMENTS, HANDLERS, SECTIONS
from benchmarks.registry import offered


def test_every_module_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "garden"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, text in (("b", "PLANT = 2"), ("a", "PLANT = 1"), ("c", "STONE = 3")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert offered(importlib.import_module("garden"), "PLANT") == [1, 2]
    for name in [name for name in sys.modules if name.partition(".")[0] == "garden"]:
        monkeypatch.delitem(sys.modules, name)


def test_experiments_come_in_the_papers_order_and_show_all_that_they_measure() -> None:
    assert list(EXPERIMENTS) == [
        "table1", "exp1", "exp2", "exp2-scales", "exp3-gradcam", "exp3-faithfulness",
        "exp3-localisation",
    ]  # fmt: skip
    assert sorted(section.kind for section in SECTIONS) == sorted(HANDLERS)
