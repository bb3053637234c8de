"""The subcommand `report`: one self-contained HTML page of what was run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.findings.report import write_report


def report(*, results: tuple[Path, ...] = (Path("results"),), out: Path = Path("report")) -> None:
    """One HTML page with all figures, tables and claims; figures also as PNG, tables as CSV.

    Args:
        results: results folders; their rows are taken together.
        out: folder of report.html, figures/ and tables/.
    """
    print(write_report(results, out))
