"""A reader under test, and how its inputs are damaged."""

import random
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count, product
from pathlib import Path
from typing import Any

from defectmill import files
from defectmill.files import DefectmillError

MOST_SEEDS, LONGEST_SEED = 200, 20_000
NUMBERS = [
    *b"0 1 -1 2 3 7 255 256 65535 65536 4294967296 9223372036854775807 9223372036854775808".split(),
    *b"1e308 1e400 -0.0 0.5 NaN Infinity -Infinity 1_0 0x10 \xd9\xa3".split(),
    b"9" * 400,
]
WORDS = [
    *b'null true false [] {} "" "a" [[]] [0] {"a":1} \\u0000 \\ud800 \\ \0 <a> $x$ ../ / .. % &a *a'.split(),
    *b"# ; , : = - ? True None 2020-13-45 !!set !!int \xff \xef\xbb\xbf \xe2\x80\xa8 \xed\xb3\xa9".split(),
    *(b" ", b"\n", b"\r", b"\t", b"<!DOCTYPE a>", b"[" * 2000, b'{"a":' * 2000),
]


class SlowError(BaseException):
    """A reader took too long; no reader can catch it."""


@dataclass
class Target:
    """A reader, and what became of its inputs.

    run: gives anything, or raises a DefectmillError. seeds: right inputs, from which others are made; those
    of which `run` gives True join them. short: all strings of some letters, the shortest first. found: what
    else happened, with an input that shows it.
    """

    run: Callable[[bytes], Any]
    seeds: list[bytes]
    is_quick: bool = False
    short: Iterator[bytes] | None = None
    read: int = 0
    refused: int = 0
    found: dict[str, bytes] = field(default_factory=dict)

    def feed(self, data: bytes) -> None:
        """Run the reader on one input, and note what came of it."""
        try:
            is_seed = self.run(data) is True
        except DefectmillError as error:
            self.refused += 1
            if len(text := str(error)) > 2 * files.LONGEST or not files.is_text(text.replace("\n", "")):
                self.found.setdefault(f"an error that no terminal shows: {text[:80]!r}", data)
        except (Exception, SlowError) as error:
            steps = [s for s in traceback.extract_tb(error.__traceback__) if "/src/defectmill/" in s.filename]
            place = f"{Path(steps[-1].filename).name}:{steps[-1].lineno}" if steps else "the check"
            self.found.setdefault(f"{type(error).__name__} at {place}", data)
        else:
            self.read += 1
            if is_seed and len(self.seeds) < MOST_SEEDS and len(data) < LONGEST_SEED:
                self.seeds.append(data)


def text_target(run: Callable[[str], Any], *seeds: str, letters: str = "") -> Target:
    """Make a target that reads the input as a string, and all that the letters can spell."""
    spelled = chain.from_iterable(product(letters, repeat=n) for n in count()) if letters else None
    short = ("".join(word).encode() for word in spelled) if spelled else None
    right = [seed.encode() for seed in seeds]
    return Target(lambda data: run(data.decode("utf-8", "replace")), right, is_quick=True, short=short)


def file_target(path: Path, read: Callable[[Path], Any], *seeds: bytes) -> Target:
    """Make a target that reads the input from this file."""

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    path.parent.mkdir(parents=True, exist_ok=True)
    return Target(run, list(seeds))


def damage(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Change one of the seeds in one to five places."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        a = rng.randrange(len(data) + 1)
        b = min(len(data), a + rng.choice((0, 1, 1, 2, 4, 8, 32)))
        match rng.randrange(9):
            case 0:
                data = data[:a] + bytes([rng.randrange(256)]) + data[a + 1 :]
            case 1:
                data = data[:a] + data[b:]
            case 2:
                data = data[:b] + data[a:]
            case 3:
                data = data[:a] + rng.choice(WORDS) + data[b:]
            case 4:
                data = data[:a] + rng.choice(NUMBERS) + data[b:]
            case 5:
                data = data[:a]
            case 6:
                other = rng.choice(seeds)
                data = data[:a] + other[rng.randrange(len(other) + 1) :]
            case 7:
                data = _exchange(rng, data, rb"-?[0-9]+(\.[0-9]+)?", NUMBERS)
            case _:
                data = _exchange(rng, data, rb'"[^"]*"|[A-Za-z_]+|\[[^][]*\]', WORDS + NUMBERS)
    return data


def _exchange(rng: random.Random, data: bytes, pattern: bytes, others: list[bytes]) -> bytes:
    found = list(re.finditer(pattern, data[:LONGEST_SEED]))
    if not found:
        return data
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(others) + data[one.end() :]
