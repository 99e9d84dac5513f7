"""Run the benchmarks: make bench, or `python -m benchmarks --only=rle`; a table, and output/bench.json.

Times do not travel from machine to machine, their ratios inside one run do, more or less.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from importlib import import_module

from benchmarks.measuring import Row
from defectmill import files
from defectmill.running.doctor import check_processor

PARTS = ("rle", "labels", "starts", "thresholds")


def main() -> None:
    """Measure all parts or one, print a line as soon as it is known, and write output/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=os.environ.get("DEFECTMILL_ONLY", ""), help=", ".join(PARTS))
    only = parser.parse_args().only.strip()
    if only and only not in PARTS:
        sys.exit(f"error: ONLY={only} is no part of the benchmarks: one of {', '.join(PARTS)}")
    processor, started = check_processor().said, time.perf_counter()
    print(f"{processor}\n\n| what | against | measured | to reach | | times |\n|---|---|---|---|---|---|")
    rows = []
    for part in [only] if only else PARTS:
        for row in import_module(f"benchmarks.{part}").measure():
            print(tell(row), flush=True)
            rows.append({"part": part, **asdict(row), "reached": row.is_reached})
    path = files.ROOT / "output" / "bench.json"
    with files.write_atomically(path) as written:
        written.write_text(json.dumps({"processor": processor, "rows": rows}, indent=1) + "\n")
    reached = sum(row["reached"] for row in rows)
    print(f"\n{reached} of {len(rows)} reached, in {time.perf_counter() - started:.0f} s")


def tell(row: Row) -> str:
    """Write a row of the table."""
    wanted = f"{'at least' if row.unit == 'times as fast' else 'at most'} {row.wanted:g}"
    cells = [
        row.what,
        row.against,
        f"{row.measured:.3g} {row.unit}",
        wanted,
        "yes" if row.is_reached else "NO",
    ]
    return f"| {' | '.join([*cells, row.note])} |"


if __name__ == "__main__":
    main()
