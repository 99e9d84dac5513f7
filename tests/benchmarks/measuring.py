"""Times and memory, and the rows of the table that are made of them."""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """One line: of what, against what, the ratio and the one to reach.

    measured, wanted: by `unit`: "times as fast" (at least as wanted), or "times as long", "s", "bytes a
    pixel" (at most as wanted). note: how long both took, or whatever else explains it.
    """

    what: str
    against: str
    measured: float
    wanted: float
    unit: str = "times as fast"
    note: str = ""

    @property
    def is_reached(self) -> bool:
        if self.unit == "times as fast":
            return self.measured >= self.wanted
        return self.measured <= self.wanted


def least_seconds(functions: Sequence[Function], items: Sequence[Any], repeats: int = 5) -> list[float]:
    """Time functions of one argument on all items: processor seconds, the least of `repeats` each.

    The functions take turns from item to item, and what other jobs take of the processor does not count.
    """
    totals = [0.0] * len(functions)
    for item in items:
        for place, function in enumerate(functions):
            totals[place] += min(_seconds(function, item) for _ in range(repeats))
    return totals


def _seconds(function: Function, item: Any) -> float:
    started = time.process_time()
    function(item)
    return time.process_time() - started


def compare(what: str, against: str, seconds: Sequence[float], wanted: float, n: int = 1) -> Row:
    """Make a row of the seconds that `what` and `against` took on `n` items."""
    ours, theirs = (tell_time(one / n) for one in seconds)
    return Row(what, against, seconds[1] / seconds[0], wanted, note=f"{ours} against {theirs}")


def tell_time(seconds: float) -> str:
    """Write a time with three digits, in s, ms or us."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def peak_bytes(function: Function, item: Any) -> int:
    """Peak of the memory that a call allocates, its result among it."""
    tracemalloc.start()
    result = function(item)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del result
    return peak
