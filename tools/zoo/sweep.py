"""Many rows: over several processes, into a file that a later run goes on with."""

from __future__ import annotations

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tqdm import tqdm

from td_transform.options import Arrangement
from tools.zoo.rows import Row, row


def read(path: Path) -> dict[str, Row]:
    """The rows of a file by model; where a model has several, what each says last."""
    rows: dict[str, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        new = json.loads(line)
        rows[new["model"]] = {**rows.get(new["model"], {}), **new}
    return rows


def sweep(
    library: str,
    names: Sequence[str],
    arrangements: Sequence[Arrangement],
    path: Path,
    *,
    real: bool = False,
    retry: bool = False,
    jobs: int = 1,
) -> None:
    """Append a row for every model that has none in some arrangement.

    Args:
        library: the name of one of `LIBRARIES`.
        names: of its models.
        arrangements: which to convert to.
        path: the file of rows.
        real: also train a step.
        retry: convert again what gave an error.
        jobs: processes.
    """
    done = read(path)
    missing = {
        name: wanted
        for name in names
        if (wanted := [a for a in arrangements if not _is_done(done.get(name, {}), a, retry)])
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for new in tqdm(_rows(library, missing, real, jobs), total=len(missing), disable=None):
            print(json.dumps(new), file=file, flush=True)


def _is_done(known: Row, arrangement: str, retry: bool) -> bool:
    result = known.get(arrangement, known.get("not built"))
    return result is not None and not (retry and "error" in result)


def _rows(
    library: str, missing: Mapping[str, Sequence[Arrangement]], real: bool, jobs: int
) -> Iterator[Row]:
    convert = partial(row, library, real=real)
    if jobs <= 1:
        yield from (convert(name, wanted) for name, wanted in missing.items())
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawned) as pool:
        futures = [pool.submit(convert, name, wanted) for name, wanted in missing.items()]
        yield from (future.result() for future in as_completed(futures))


def sampled(families: Mapping[str, str], per_family: int) -> list[str]:
    """That many models of every family, spread evenly over its names in order; 0 is all."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(families):
        members[families[name]].append(name)
    chosen = []
    for names in members.values():
        count = min(per_family or len(names), len(names))
        chosen += [names[i * len(names) // count] for i in range(count)]
    return chosen
