"""Importing torchvision on a CPU-only torch. Every test has an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parent.parent

# Which of the two operators somebody, this package or another, has declared.
DECLARED = "[name for name in ('nms', 'qnms') if hasattr(torch.ops.torchvision, name)]"

# Stands in for a torchvision whose extension does not load: its import wants both operators.
NEEDS_OPERATORS = """
    import torch
    import torchvision.ops

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            raise RuntimeError(f"operator torchvision::{name} does not exist")
"""


def run_python(code: str, *search_path: Path) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*search_path, ROOT]))}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def write_fake_torchvision(folder: Path, code: str) -> Path:
    """Write a package named torchvision, with one submodule, whose import runs the code."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(code))
    (package / "ops.py").write_text("")
    return folder


def test_returns_a_torchvision_that_builds_and_runs_a_classifier() -> None:
    printed = run_python(
        """
        import sys
        import torch
        from td_transform.torchvision_cpu import import_torchvision

        torchvision = import_torchvision()
        assert torchvision is sys.modules["torchvision"]
        model = torchvision.models.resnet18(num_classes=10).eval()
        print(tuple(model(torch.zeros(2, 3, 64, 64)).shape))
        """
    )
    assert printed == "(2, 10)"


def test_timm_imports_after_it() -> None:
    printed = run_python(
        """
        from td_transform.torchvision_cpu import import_torchvision

        import_torchvision()
        import timm
        print(timm.create_model("resnet10t", num_classes=7).num_classes)
        """
    )
    assert printed == "7"


def test_recovers_from_an_import_that_failed_before() -> None:
    printed = run_python(
        """
        import contextlib
        from td_transform.torchvision_cpu import import_torchvision

        with contextlib.suppress(RuntimeError):
            import torchvision
        print(import_torchvision().models.alexnet.__name__)
        """
    )
    assert printed == "alexnet"


def test_a_second_call_returns_the_same_module_and_keeps_the_declarations(
    tmp_path: Path,
) -> None:
    write_fake_torchvision(tmp_path, NEEDS_OPERATORS)
    printed = run_python(
        f"""
        import gc, torch
        from td_transform.torchvision_cpu import import_torchvision

        first = import_torchvision()
        second = import_torchvision()
        gc.collect()
        print(first is second, {DECLARED})
        """,
        tmp_path,
    )
    assert printed == "True ['nms', 'qnms']"


@pytest.mark.parametrize(("kind", "declared"), [("DEF", ()), ("FRAGMENT", ("nms",))])
def test_works_beside_declarations_made_by_someone_else(
    tmp_path: Path, kind: str, declared: tuple[str, ...]
) -> None:
    write_fake_torchvision(tmp_path, NEEDS_OPERATORS)
    printed = run_python(
        f"""
        import torch

        library = torch.library.Library("torchvision", "{kind}")
        for name in {declared}:
            library.define(name + "(Tensor a, Tensor b, float c) -> Tensor")
        from td_transform.torchvision_cpu import import_torchvision

        print(import_torchvision().ops.__name__, {DECLARED})
        """,
        tmp_path,
    )
    assert printed == "torchvision.ops ['nms', 'qnms']"


@pytest.mark.parametrize("before", ["", "import torchvision"])
def test_does_nothing_where_torchvision_loads_by_itself(tmp_path: Path, before: str) -> None:
    write_fake_torchvision(tmp_path, "import torchvision.ops")
    printed = run_python(
        f"""
        import sys, torch
        {before}
        from td_transform.torchvision_cpu import import_torchvision

        module = import_torchvision()
        print(module is sys.modules["torchvision"], "torchvision.ops" in sys.modules, {DECLARED})
        """,
        tmp_path,
    )
    assert printed == "True True []"


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError('something else')",
        "RuntimeError('operator torchvision::roi_align does not exist')",
        "ImportError('torchvision::nms does not exist')",
    ],
)
def test_other_errors_propagate(tmp_path: Path, error: str) -> None:
    write_fake_torchvision(tmp_path, f"raise {error}")
    printed = run_python(
        f"""
        import torch
        from td_transform.torchvision_cpu import import_torchvision

        try:
            import_torchvision()
        except Exception as error:
            print(repr(error), {DECLARED})
        """,
        tmp_path,
    )
    assert printed == f"{error} []"


def test_an_error_of_the_second_import_propagates(tmp_path: Path) -> None:
    write_fake_torchvision(tmp_path, NEEDS_OPERATORS + "\n    raise RuntimeError('later')\n")
    printed = run_python(
        f"""
        import gc, torch
        from td_transform.torchvision_cpu import import_torchvision

        for attempt in range(2):
            try:
                import_torchvision()
            except RuntimeError as error:
                gc.collect()
                print(error, {DECLARED})
        """,
        tmp_path,
    )
    assert printed.splitlines() == ["later ['nms', 'qnms']"] * 2


def test_its_example_runs() -> None:
    printed = run_python(
        """
        import doctest
        import td_transform.torchvision_cpu as module

        print(doctest.testmod(module, raise_on_error=True))
        """
    )
    assert printed == "TestResults(failed=0, attempted=3)"


def test_the_package_does_not_import_what_only_the_benchmarks_need() -> None:
    printed = run_python(
        """
        import sys
        import td_transform

        optional = {"torchvision", "matplotlib", "foolbox", "timm"}
        print(sorted(optional & {name.split(".")[0] for name in sys.modules}))
        """
    )
    assert printed == "[]"
