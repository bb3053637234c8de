"""``python -m tools.perf``: one table of ratios, and JSON.

Every ratio comes from rounds in which its two sides ran one after the other; shown are the median
and, in brackets, the quartiles of the rounds' ratios. Figures of different rows don't compare.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.runs.stamp import processor
from td_transform.table import format_table
from tools.perf.growth import Point, growth
from tools.perf.measures import Row, Setting, measured
from tools.perf.subjects import subjects
from tools.perf.timing import Ratio

# networks small enough for the whole batch
_FULL_BATCH = ("LeNetFC", "NIN-light", "NIN", "ResNet32")


@dataclass(frozen=True)
class Arguments:
    """What to measure.

    Args:
        networks: their names; all without one.
        side: pixels of torchvision's images.
        batch: images a step; torchvision's networks take an eighth of it.
        rounds: how often everything is timed.
        threads: of torch on the CPU.
        device: where networks run.
        compile: also time `torch.compile`.
        growth: also measure how time grows with side, batch and levels.
        json: also write everything to this file.
    """

    networks: tuple[str, ...] = ()
    side: int = 64
    batch: int = 16
    rounds: int = 5
    threads: int = 2
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    compile: bool = True
    growth: bool = True
    json: Path | None = None


def main(arguments: Arguments) -> None:
    """Print the table of each network as soon as it is measured."""
    torch.set_num_threads(arguments.threads)
    known = subjects(arguments.side)
    rows: list[Row] = []
    print(header(arguments), flush=True)
    for name in arguments.networks or known:
        batch = arguments.batch if name in _FULL_BATCH else max(2, arguments.batch // 8)
        row = measured(name, known[name], _setting(arguments, batch))
        rows.append(row)
        print("\n".join(["", *row_table(row)]), flush=True)
    points = growth(_setting(arguments, arguments.batch)) if arguments.growth else []
    print("\n".join(["", *summary(rows), "", *growth_table(points)]))
    if arguments.json is not None:
        content = {"header": header(arguments), "rows": rows, "growth": points}
        arguments.json.write_text(json.dumps(content, indent=1, default=asdict))


def _setting(arguments: Arguments, batch: int) -> Setting:
    device = torch.device(arguments.device)
    return Setting(device, batch, arguments.rounds, arguments.compile)


def header(arguments: Arguments) -> str:
    """Hardware, versions and sizes."""
    on_gpu = arguments.device.startswith("cuda")
    name = torch.cuda.get_device_name() if on_gpu else processor()
    clock = "processor" if arguments.threads == 1 and not on_gpu else "wall"
    return (
        f"{name}, {arguments.threads} threads, {clock} time; torch {torch.__version__}, Python "
        f"{platform.python_version()}; batch {arguments.batch} (torchvision's: "
        f"{max(2, arguments.batch // 8)} at {arguments.side} px), output_stride=1; "
        f"{arguments.rounds} rounds in turn, median [quartiles]"
    )


def row_table(row: Row) -> list[str]:
    """Seconds and ratios of one network's contestants."""
    cells = [
        [name, *_time_cells(time), *_time_cells(row.training.get(name))]
        for name, time in row.inference.items()
    ]
    columns = [row.name, "inference, ms", "against TD", "training, ms", "against TD"]
    return format_table(columns, cells)


def _time_cells(time: Ratio | None) -> list[str]:
    return ["", ""] if time is None else [f"{1000 * time.seconds:.1f}", str(time)]


def summary(rows: Sequence[Row]) -> list[str]:
    """One line a network."""
    columns = [
        "TD network", "conversion", "inference / BU", "training / BU", "inference / hand",
        "training / hand", "inference / optimised", "mult-adds / BU", "kept / BU", "kept, MB",
        "peak, MB", "share of peak", "training",
    ]  # fmt: skip
    return format_table(columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    times = [
        f"{1 / kind[rival].ratio:.2f}" if rival in kind else ""
        for kind, rival in (
            (row.inference, "BU"), (row.training, "BU"), (row.inference, "by hand"),
            (row.training, "by hand"), (row.inference, f"TD, {row.backend}"),
        )
    ]  # fmt: skip
    return [
        row.name, str(row.conversion), *times, f"{row.multiply_adds:.1f}", f"{row.kept:.1f}",
        f"{row.kept_bytes / 1e6:.1f}", f"{row.peak_bytes / 1e6:.1f}", f"{100 * row.share:.0f} %",
        f"{100 * row.training_share:.0f} %",
    ]  # fmt: skip


def growth_table(points: Sequence[Point]) -> list[str]:
    """Time per multiply-add along each axis."""
    columns = ["grows", "to", "multiply-adds", "ns per multiply-add", "against the smallest"]
    cells = [
        [p.axis, str(p.value), f"{p.multiply_adds:,}", f"{p.nanoseconds:.4f}", f"{p.ratio:.2f}"]
        for p in points
    ]
    return format_table(columns, cells) if cells else []


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
