"""Which releases the package works with: the tests of `make test` in an environment of each.

    python tools/torch_versions.py "torch==2.6.0 protobuf<6" torch==2.14.1 networkx==3.0

Every argument, one requirement or several, gets a virtual environment of its own in a temporary
folder, with the newest releases of everything else that fit; it is deleted afterwards. A release of
torch takes several GB and some minutes to install. The tests of the benchmarks, which need more
packages, are left out.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SELECTION = ("tests", "--ignore=tests/benchmarks")
COLUMNS = ("requirement", "torch", "torchvision", "networkx", "passed", "failed", "first error")
VERSIONS = "from importlib.metadata import version; print(*map(version, {names!r}))"


@dataclass(frozen=True)
class Outcome:
    """What came of the tests in one environment.

    Args:
        passed: how many tests passed.
        failed: how many failed, or could not be collected.
        error: the first failure's test and message; empty where none failed.
    """

    passed: int
    failed: int
    error: str


def main() -> None:
    arguments = _parser().parse_args()
    print(" | ".join(COLUMNS), flush=True)
    for requirement in arguments.requirements:
        started = time.monotonic()
        try:
            cells = tried(requirement, arguments.pytest)
        except subprocess.CalledProcessError as error:
            cells = [requirement, *["-"] * 5, f"not installed: {_last_line(error.stderr)}"]
        print(" | ".join(cells), flush=True)
        print(f"{requirement}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("requirements", nargs="+", metavar="NAME==VERSION")
    parser.add_argument(
        "--pytest", action="append", default=[], help="one more argument for pytest"
    )
    return parser


def tried(requirement: str, more: list[str]) -> list[str]:
    """One row of the table.

    Raises:
        CalledProcessError: the environment can't be installed.
    """
    with tempfile.TemporaryDirectory(prefix="td_transform-") as folder:
        environment = Path(folder) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        _install(python, requirement)
        names = ("torch", "torchvision", "networkx")
        versions = _run(python, "-c", VERSIONS.format(names=names)).split()
        outcome = _test(python, Path(folder) / "report.xml", more)
    return [requirement, *versions, str(outcome.passed), str(outcome.failed), outcome.error]


def _install(python: Path, requirement: str) -> None:
    """The package's requirements and its tests', less the bounds on what is being tried."""
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    listed = options["options"]["install_requires"].split("\n")
    extras = options["options.extras_require"]
    for extra in ("fields", "test"):
        listed += extras[extra].split("\n")
    given = requirement.split()
    names = set(map(_name, given))
    wanted = [line for line in listed if line and _name(line) not in names]
    _run(python, "-m", "pip", "install", "--quiet", *given, *wanted)


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~ \[]", requirement, maxsplit=1)[0]


def _test(python: Path, report: Path, more: list[str]) -> Outcome:
    command: list[str | Path] = [
        python, "-m", "pytest", *SELECTION, "-n", "2", "-q", "--no-header", "-p",
        "no:cacheprovider", f"--junitxml={report}", *more,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if not report.exists():
        return Outcome(0, 0, _last_line(done.stdout + done.stderr))
    print(done.stdout[-20_000:], file=sys.stderr)
    return read_report(report)


def read_report(report: Path) -> Outcome:
    """The outcome that a JUnit report tells of."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    broken = [(case, found) for case in cases if (found := _problem(case)) is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(broken) - skipped
    if not broken:
        return Outcome(passed, 0, "")
    case, problem = broken[0]
    first = (problem.get("message") or "").split("\n")[0]
    return Outcome(passed, len(broken), f"{case.get('name')}: {first}")


def _problem(case: ElementTree.Element) -> ElementTree.Element | None:
    failure = case.find("failure")
    return case.find("error") if failure is None else failure


def _run(python: Path, *arguments: str) -> str:
    done = subprocess.run([python, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or [""])[-1]


if __name__ == "__main__":
    main()
