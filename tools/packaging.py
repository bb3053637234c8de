"""The package as a stranger gets it: built, installed in an empty environment, and used there.

    python -m tools.packaging

Clones the checkout's last commit; builds the source distribution and, from that, the wheel
(`python -m build`); looks at what is in them; installs the wheel with its extras into a new
environment, with the versions of constraints.txt; then runs, far from the checkout, the README's
`td-transform` commands and its Python blocks. It takes minutes and some GB in a temporary folder,
which is deleted afterwards.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^td-transform .*$", re.MULTILINE)
# what the README's commands find in the folder that they are typed in
USERS_OWN = "from torchvision.models import resnet18 as build\n"


def main() -> None:
    """Exits with 1 where a step fails, after what it printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="td_transform-") as name:
        folder = Path(name)
        try:
            # what lies about in the checkout isn't packaged, and what changes there changes nothing
            clone = folder / "clone"
            _run("git", "clone", "--quiet", ROOT, clone)
            wheel = built(clone, folder)
            check_contents(wheel, clone)
            use(wheel, clone, folder)
        except subprocess.CalledProcessError as error:
            print(error.stdout, error.stderr, f"failed: {error.cmd}", sep="\n", file=sys.stderr)
            raise SystemExit(1) from None
    print("the wheel works in an empty environment")


def built(clone: Path, folder: Path) -> Path:
    """The wheel, made from the source distribution as an index would make it."""
    python = _environment(folder / "builder")
    _run(python, "-m", "pip", "install", "--quiet", "build")
    _run(python, "-m", "build", "--outdir", folder / "dist", clone)
    (wheel,) = (folder / "dist").glob("*.whl")
    (source,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        print(f"{source.name}: {len(archive.getnames())} entries", flush=True)
    return wheel


def check_contents(wheel: Path, clone: Path) -> None:
    """The wheel holds the package's files, all of them, and no others.

    Raises:
        SystemExit: it doesn't.
    """
    tracked = _run("git", "-C", clone, "ls-files", "td_transform").split()
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if ".dist-info/" not in name]
    print(f"{wheel.name}: {len(packed)} files", flush=True)
    if different := sorted(set(tracked) ^ set(packed)):
        raise SystemExit(f"in the checkout or in the wheel alone: {', '.join(different)}")


def use(wheel: Path, clone: Path, folder: Path) -> None:
    """What the README tells a new user to type, in an empty folder."""
    python = _environment(folder / "environment")
    install = (python, "-m", "pip", "install", "--quiet", "--constraint", clone / "constraints.txt")
    _run(*install, "torch")
    _run(*install, f"{wheel}[fields,report]", "torchvision", "timm")
    here = folder / "empty"
    (here / "my_package").mkdir(parents=True)
    (here / "my_package" / "models.py").write_text(USERS_OWN)
    text = (clone / "README.md").read_text()
    commands = COMMAND.findall(text)
    for command in ["td-transform --help", *commands]:
        program, *arguments = shlex.split(command, comments=True)
        _run(python.parent / program, *arguments, cwd=here)
        print(f"{command}: done", flush=True)
    # torchvision from an index without a CUDA torch beside it: see docs/troubleshooting.md
    first = "from td_transform.torchvision_cpu import import_torchvision; import_torchvision()\n"
    blocks = BLOCK.findall(text)
    _run(python, "-c", first + "\n".join(blocks), cwd=here)
    print(f"the README's {len(blocks)} blocks: done", flush=True)


def _environment(folder: Path) -> Path:
    """The Python of a new virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """What it prints.

    Raises:
        CalledProcessError: it fails.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
