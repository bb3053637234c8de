"""Convert and train random networks for a while: nothing but a `TopDownError` may come out.

    python -m tools.random_graphs --seconds 3600 --first 0 --out random_graphs.jsonl

writes a row for each seed that fails, with what the network was made of and the traceback;
`--seed 17` runs one and shows it. What was refused is counted by its error's text.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from tests.transform.random_graphs import check, draw


def run(first: int, seconds: float, out: Path) -> None:
    """Seeds from the first on, until the time is up."""
    counts: Counter[str] = Counter()
    end, seed = time.monotonic() + seconds, first
    with out.open("a") as rows:
        while time.monotonic() < end:
            outcome = _outcome(seed, rows=rows)
            counts[outcome] += 1
            seed += 1
            if seed % 500 == 0:
                print(seed, dict(counts.most_common(6)), flush=True)
    print(f"seeds {first} to {seed - 1}")
    for outcome, count in counts.most_common():
        print(f"{count:6} {outcome}")


def _outcome(seed: int, rows: object) -> str:
    drawn = draw(seed)
    try:
        found = check(drawn)
    except Exception as error:
        row = {
            "seed": seed, "parts": drawn.parts, "options": str(drawn.options),
            "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(),
        }  # fmt: skip
        print(json.dumps(row), file=rows, flush=True)  # type: ignore[call-overload]
        return "FAILED"
    return re.sub(r"'[^']*'|\d+|\([^)]*\)|node [^:]*:", "_", found)[:150]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("random_graphs.jsonl"))
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.seed is None:
        run(args.first, args.seconds, args.out)
        return
    drawn = draw(args.seed)
    print(drawn.model, drawn.parts, drawn.options, sep="\n")
    print(check(drawn))


if __name__ == "__main__":
    main()
