"""What all tests share: threads, what a machine may lack, totals."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.browser import executable

# One thread a worker: two workers on two cores otherwise wait for each other.
torch.set_num_threads(1)

DATA_FOLDER = "TD_TRANSFORM_DATA"

TESTS = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a test that skips itself fails instead (not for want of a GPU)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Continuous integration must have whatever a user's machine may lack, but for a GPU."""
    report: pytest.TestReport = yield
    must_run = item.config.getoption("no_skips") and item.get_closest_marker("cuda") is None
    if report.skipped and must_run and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under --no-skips: {report.longrepr}"
    return report


def pytest_collection_finish() -> None:
    """What is imported stays: `collected` needn't look at it again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same weights and images whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """A graph is a cycle of references: Python frees its tensors when it gets round to it.

    What is left was imported meanwhile, and needn't be looked at after every test: every
    fiftieth looks at everything, for caches that a later test let go of.
    """
    yield
    if next(TESTS) % 50 == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of data sets, laid out as torchvision lays them out (MNIST/raw/...)."""
    folder = os.environ.get(DATA_FOLDER)
    if not folder:
        pytest.skip(f"needs the data sets: set {DATA_FOLDER} to the folder that holds MNIST/raw")
    return Path(folder)


@pytest.fixture(scope="session")
def browser() -> str:
    """The browser's command."""
    try:
        return executable()
    except RuntimeError as missing:
        pytest.skip(f"needs a browser: {missing}")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as a terminal's programs have it, for the test and the processes that it starts.

    What `nohup` or a scheduler starts in the background may ignore it, and its children with it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests counted (`record_property`), in total."""
    totals: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if isinstance(value, int):
                totals[name] += value
    for name, total in totals.items():
        terminalreporter.write_line(f"{name}: {total:,}, none differed")
