"""Run the targets in turn: make fuzz, or `python -m fuzzing --seconds=60`; half of the time goes to strings.

A find is another exception than a DefectmillError, SLOW seconds or MEMORY bytes. Its input is kept in a file;
`--target=NAME FILE` reads that again, and shows the traceback.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from fuzzing import annotations, strings
from fuzzing.target import SlowError, Target, damage

SLOW, MEMORY = 30, 8 << 30
TURN = 0.25  # seconds


def main() -> int:
    """Feed the targets; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=os.environ.get("DEFECTMILL_SECONDS") or 60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", default="", help="one of them, or `strings`, or `files`")
    parser.add_argument("file", nargs="?", type=Path)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _give_up)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        targets = strings.make_targets(home / "project") | annotations.make_targets(home / "raw")
        wanted = {"": list(targets), "files": [name for name, one in targets.items() if not one.is_quick]}
        wanted["strings"] = [name for name, one in targets.items() if one.is_quick]
        chosen = {
            name: one for name, one in targets.items() if name in wanted.get(given.target, [given.target])
        }
        if not chosen:
            sys.exit(f"error: no target {given.target!r}; there are: {', '.join(targets)}")
        if given.file:
            print(chosen[given.target].run(given.file.read_bytes()))
            return 0
        started = time.perf_counter()
        feed(chosen, given.seconds, random.Random(given.seed))
        return tell(chosen, given.seed, time.perf_counter() - started)


def feed(targets: dict[str, Target], seconds: float, rng: random.Random) -> None:
    """Feed the targets in turn until the time is over; quick ones each second time with short strings."""
    for target in targets.values():
        for seed in list(target.seeds):
            target.feed(seed)
    quick = [one for one in targets.values() if one.is_quick]
    others = [one for one in targets.values() if not one.is_quick] or quick
    end, turn = time.perf_counter() + seconds, 0
    while (now := time.perf_counter()) < end:
        some = others if turn % 2 or not quick else quick
        target, until = some[turn // 2 % len(some)], min(end, now + TURN)
        short = target.short if turn // 2 // len(some) % 2 == turn % 2 else None
        signal.setitimer(signal.ITIMER_REAL, SLOW)
        while time.perf_counter() < until:
            for _ in range(100 if target.is_quick else 1):
                target.feed(next(short) if short else damage(rng, target.seeds))
        signal.setitimer(signal.ITIMER_REAL, 0)
        turn += 1


def tell(targets: dict[str, Target], seed: int, seconds: float) -> int:
    """Print what was fed and found; give the exit status."""
    print(f"{'target':14}{'inputs':>12}{'read':>12}{'refused':>12}   found")
    for name, one in targets.items():
        print(
            f"{name:14}{one.read + one.refused:12,}{one.read:12,}{one.refused:12,}   {len(one.found) or ''}"
        )
    total = sum(one.read + one.refused for one in targets.values())
    print(f"{total:,} inputs in {seconds:.0f} s, --seed={seed}")
    finds = [(name, what, data) for name, one in targets.items() for what, data in one.found.items()]
    kept = Path(tempfile.mkdtemp(prefix="fuzz-")) if finds else Path()
    for number, (name, what, data) in enumerate(finds):
        path = kept / f"{number}.{name.replace(' ', '-')}"
        path.write_bytes(data)
        print(f"FOUND {name}: {what}\n  {data[:100]!r}\n  python -m fuzzing --target='{name}' {path}")
    return int(bool(finds))


def _give_up(*_: object) -> None:
    raise SlowError(f"over {SLOW} s")


if __name__ == "__main__":
    sys.exit(main())
