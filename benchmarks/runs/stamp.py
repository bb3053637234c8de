"""What a figure was measured on and with."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

import td_transform
from benchmarks.runs.jobs import Row

COMMIT_VARIABLE = "TD_TRANSFORM_COMMIT"


@cache
def stamp(device: torch.device) -> Row:
    """Hardware, versions and the commit of the code, for a row of results.

    Example:
        >>> stamp(torch.device("cpu"))["device"]
        'cpu'
    """
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "python": platform.python_version(),
        "td_transform": td_transform.__version__,
        "commit": commit(),
    }


def processor() -> str:
    """The CPU's name, where the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """Of the checkout that this file is in, marked where something differs from it.

    A cluster's machines have the code without the checkout: they are told ($COMMIT_VARIABLE).
    """
    if COMMIT_VARIABLE in os.environ:
        return os.environ[COMMIT_VARIABLE] or None
    here = str(Path(__file__).resolve().parent)
    described = ["describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(
            ["git", "-C", here, *described], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
