"""`results.jsonl`: one JSON object per line, written by any number of processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from benchmarks.errors import BenchmarkError
from benchmarks.files import replace_file
from benchmarks.runs.jobs import Row


class Store:
    """The results of a folder.

    Rows that are added together become visible together: the file is replaced as a whole, under a
    lock. A process that is killed leaves either all of them or none.

    Args:
        root: the results folder; made when the first row is added.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> store.append({"job": "0123", "status": "done"})
        >>> store.done("0123"), store.done("4567")
        (True, False)
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "results.jsonl"
        self._lock = FileLock(root / ".results.lock")
        self._rows: list[Row] = []
        self._seen: tuple[int, int, int] | None = None

    def append(self, *rows: Row) -> None:
        """Add rows, all or none, before any other process can add its own."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            before = self.path.read_bytes() if self.path.exists() else b""
            replace_file(self.path, before + lines.encode())

    def rows(self) -> list[Row]:
        """All rows in the order in which they were added.

        Raises:
            BenchmarkError: a line is not a JSON object.
        """
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._rows = list(self._parsed(file))
                self._seen = seen
        return list(self._rows)

    def done(self, job_id: str) -> bool:
        """Did the job end well?"""
        return self.status(job_id) == "done"

    def status(self, job_id: str) -> str | None:
        """`done` or `failed`; None for a job without rows."""
        found = [str(row["status"]) for row in self.rows() if row.get("job") == job_id]
        return found[-1] if found else None

    def _parsed(self, lines: Iterable[bytes]) -> Iterable[Row]:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise BenchmarkError(
                    f"{self.path}, line {number}", seen=f"{line[:40]!r}",
                    expected="a JSON object on each line", remedy="delete that line",
                )  # fmt: skip
            yield row
