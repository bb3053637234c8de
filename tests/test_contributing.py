"""The changes that CONTRIBUTING.md shows are whole: each diff applies, and what it adds works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHANGE = re.compile(
    r"^### (?P<title>.+?) \((?P<files>\d) files?.*?\)$.*?^```diff\n(?P<diff>.*?)^```$"
    r".*?^```python\n(?P<check>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Change:
    title: str
    files: int
    diff: str
    check: str

    @property
    def touched(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(.+)$", self.diff, re.MULTILINE)


CHANGES = [
    Change(found["title"], int(found["files"]), found["diff"], found["check"])
    for found in CHANGE.finditer((ROOT / "CONTRIBUTING.md").read_text())
]


def test_each_kind_of_change_is_shown() -> None:
    assert [change.title for change in CHANGES] == [
        "An operator", "An operator with a window", "A merge", "A pyramid", "An upsampling",
        "An attack", "An experiment",
    ]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_a_change_touches_as_few_files_as_it_says(change: Change) -> None:
    assert len([file for file in change.touched if not file.startswith("tests/")]) == change.files


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_a_change_applies_and_works(change: Change, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("td_transform", "benchmarks", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "data")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], cwd=tree, input=change.diff, text=True,
        capture_output=True,
    )  # fmt: skip
    assert applied.returncode == 0, applied.stderr
    ran = subprocess.run(
        [sys.executable, "-c", change.check], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tree)}, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    shutil.copy(ROOT / "pyproject.toml", tree)
    tests = [file for file in change.touched if file.startswith("tests/")]
    commands = [["ruff", "check", *change.touched], ["ruff", "format", "--check", *change.touched]]
    for command in commands + [["pytest", "-q", *tests]] * bool(tests):
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=tree, text=True, capture_output=True, timeout=300
        )
        assert ran.returncode == 0, ran.stdout
