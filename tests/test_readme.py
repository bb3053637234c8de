"""What the documentation tells users to type runs as it stands, and prints what it says.

A page's blocks run in order in a process of their own. Of these:

- a ``python`` block runs; ``python raises`` ends in an error with its section's heading in its text;
- a ``text`` block behind a ``python`` one is what that prints, with ``...`` for what may differ;
- a ``python`` block that begins with ``# path/to/a_file.py`` is such a file, in a copy of the checkout in
  which the page's other blocks run;
- ``bash`` blocks run in such a copy, in the exhaustive tests, as do pages that take long.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
FILE = re.compile(r"# (?P<path>[\w/]+\.py)\n")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# they train, convert large networks, or copy the checkout
SLOW = ("quick_start", "transformation", "extending", "architecture")
# an environment is made once, and not by the tests
NOT_RUN = ("pip install", "git clone")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Args:
        kind: what stands behind the fence: python, text or bash.
        code: with as many empty lines before it as the page has, for tracebacks.
        raises: the heading of the section whose error it ends in.
        file: the file that it is.
        printed: what it prints.
    """

    kind: str
    code: str
    raises: str | None = None
    file: str | None = None
    printed: str | None = None


def blocks_of(page: str) -> list[Block]:
    """All blocks of a page, in order."""
    text = (ROOT / page).read_text()
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        kind, code = match["kind"], match["code"]
        before = text[: match.start()]
        if kind == "text" and before.endswith("```\n\n"):
            last = found.pop()
            found.append(Block(last.kind, last.code, last.raises, last.file, printed=code))
            continue
        file = FILE.match(code)
        found.append(
            Block(
                kind,
                code if kind == "bash" else "\n" * (before.count("\n") + 1) + code,
                raises=HEADING.findall(before)[-1] if match["info"].strip() == "raises" else None,
                file=file["path"] if file else None,
            )
        )
    return found


PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *DOCS.rglob("*.md"))
    if any(block.kind in ("python", "bash") for block in blocks_of(str(page.relative_to(ROOT))))
)

# After the first line `import torchvision` works on a CPU-only torch too.
RUN = """
__import__("td_transform.torchvision_cpu").torchvision_cpu.import_torchvision()
import contextlib, io, json, sys
printed = []
for code, raises in json.loads(sys.argv[2]):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, sys.argv[1], "exec"), globals())
    except Exception as error:
        if not raises:
            raise
        out.write(f"{type(error).__name__}: {error}")
    else:
        assert not raises, f"no error: {raises}"
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def test_there_is_something_to_run() -> None:
    assert {"README.md", "docs/quick_start.md", "docs/transformation.md"} <= set(PAGES)
    first = next(block for block in blocks_of("README.md") if block.kind == "python")
    assert re.search(r"^import torchvision$", first.code, re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.exhaustive] * (Path(p).stem in SLOW)) for p in PAGES],
)
def test_blocks_run_in_order(page: str, tmp_path: Path) -> None:
    """In a process of their own: they register operators."""
    blocks = blocks_of(page)
    checkout = _checkout(blocks, tmp_path) if any(block.file for block in blocks) else ROOT
    run = [block for block in blocks if block.kind == "python" and not block.file]
    for block, printed in zip(run, _printed(page, run, checkout, tmp_path), strict=True):
        if block.raises:
            assert _agrees(f"...{block.raises}...", printed), f"{block.raises}\n---\n{printed}"
        if block.printed:
            assert _agrees(block.printed, printed), f"{block.printed}\n---\n{printed}"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(block.kind == "bash" for block in blocks_of(p))]
)
def test_commands_run_in_order(page: str, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    checkout = _checkout(blocks, tmp_path)
    for block in blocks:
        if block.kind != "bash":
            continue
        lines = [line for line in block.code.splitlines() if not line.startswith(NOT_RUN)]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=checkout, capture_output=True,
            text=True, env=_environment(checkout), timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.code}\n---\n{done.stdout}{done.stderr}"
        if block.printed:
            assert _agrees(block.printed, done.stdout), f"{block.printed}\n---\n{done.stdout}"


def test_headings_of_troubleshooting_are_texts_that_are_printed() -> None:
    """Each section has the code that ends in its error."""
    page = "docs/troubleshooting.md"
    shown = {block.raises for block in blocks_of(page)}
    headings = HEADING.findall(BLOCK.sub("", (ROOT / page).read_text()))[1:]
    assert [heading for heading in headings if heading not in shown] == [
        "RuntimeError: operator torchvision::nms does not exist"
    ]
    # torch's own text, and what torchvision's import calls
    with pytest.raises(RuntimeError, match=r"^operator nowhere::nms does not exist$"):
        torch.library.register_fake("nowhere::nms", lambda: None)


def test_api_page_has_every_public_name() -> None:
    """And nothing that isn't there: Sphinx would fail."""
    import td_transform

    page = (DOCS / "api.md").read_text()
    described = set(re.findall(r"^\.\. auto\w+:: td_transform\.(\w+)$", page, re.MULTILINE))
    assert described == set(td_transform.__all__)


def test_options_page_has_every_option() -> None:
    from td_transform import Conversion

    page = (DOCS / "options.md").read_text()
    assert {f.name for f in fields(Conversion)} <= set(re.findall(r"\b(\w+)=", page))


def test_links_of_the_readme_lead_to_a_file_and_its_heading() -> None:
    """Sphinx follows those of the other pages."""
    links = re.findall(r"\]\((?!http)([^)#]+)#?([^)]*)\)", (ROOT / "README.md").read_text())
    assert links
    for file, anchor in links:
        assert (ROOT / file).exists(), file
        assert not anchor or anchor in _anchors(ROOT / file), f"{file}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """As GitHub and MyST make them of headings."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def _checkout(blocks: list[Block], folder: Path) -> Path:
    """A copy of what the blocks use, with their own files in it."""
    checkout = folder / "checkout"
    for part in ("td_transform", "benchmarks", "tools", "examples"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("results"))
    for block in blocks:
        if block.file:
            (checkout / block.file).write_text(block.code.lstrip("\n"))
    return checkout


def _printed(page: str, blocks: list[Block], checkout: Path, folder: Path) -> list[str]:
    """What each block prints."""
    codes = json.dumps([(block.code, block.raises) for block in blocks])
    done = subprocess.run(
        [sys.executable, "-c", RUN, page, codes], cwd=folder, capture_output=True, text=True,
        env=_environment(checkout), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed: list[str] = json.loads(done.stdout.splitlines()[-1])
    return printed


def _environment(checkout: Path) -> dict[str, str]:
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": commands, "PYTHONPATH": str(checkout), "MPLBACKEND": "agg"}


def _agrees(wanted: str, printed: str) -> bool:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted.rstrip(), printed.rstrip(), options)
