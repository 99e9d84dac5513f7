"""The run-length strings that are measured: Severstal's where they lie beside the project, else drawn."""

import os
from functools import cache
from pathlib import Path

import numpy as np

from defectmill.files import ROOT
from defectmill.labels import read_csv

SHAPE = (256, 1600)
DATA = Path(os.environ.get("DEFECTMILL_REALDATA") or ROOT.parent / "shared" / "data")
REAL = DATA / "severstal" / "train_current.csv"


@cache
def read_strings() -> tuple[str, list[str]]:
    """Give what the strings are, and the strings."""
    if REAL.is_file():
        runs = read_csv(REAL)["EncodedPixels"].tolist()
        return f"{len(runs):,} real strings", runs
    return "3,689 drawn strings", draw_strings(3689, np.random.default_rng(0))


def draw_strings(n: int, rng: np.random.Generator) -> list[str]:
    """Draw strings like Severstal's: median 103 runs, mean 245, at most 3,200, of 86 pixels on average."""
    strings = []
    for count in np.exp(rng.normal(np.log(103), 1.3, n)).clip(1, 3200).astype(int).tolist():
        period = SHAPE[0] if count < 1500 else SHAPE[0] // 2
        lengths = rng.integers(1, period * 2 // 3, count)
        first = int(rng.integers(SHAPE[0] * SHAPE[1] - count * period + 1))
        starts = first + 1 + period * np.arange(count) + rng.integers(period // 3, size=count)
        strings.append(" ".join(map(str, np.stack([starts, lengths], 1).ravel().tolist())))
    return strings
