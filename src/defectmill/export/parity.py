"""What an exported network gives beside what Keras gives: probabilities, masks, Dice, milliseconds."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from defectmill import files
from defectmill.config import Experiment
from defectmill.export.bundle import load_code
from defectmill.images import read_image
from defectmill.models import load_networks
from defectmill.prediction import inspection, line
from defectmill.prediction.inference import predict_folder
from defectmill.prediction.postprocess import ClassThreshold, make_masks
from defectmill.prediction.thresholds import read_thresholds
from defectmill.scores import micro_dice

KERAS = "keras"
ALIKE = 0.001  # of the mask pixels so many may differ in float32: else the export is wrong
CLOSE = 0.02  # in int8, and so much Dice may be lost, or it is not called the best
LOST = 0.005
ROUNDS, TIMED = 3, 4  # of each picture the least of so many rounds; pictures


@dataclass
class Comparison:
    """How far one export is from Keras, on pictures that `add` takes one after the other."""

    pictures: int = 0
    equal_masks: int = 0
    largest_difference: float = 0.0
    differing: int = 0  # pixels
    mask_pixels: int = 0  # of Keras's masks
    counts: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(
        self, probs: Sequence[np.ndarray], masks: Sequence[np.ndarray], truth: np.ndarray | None = None
    ) -> None:
        """Take probabilities and masks of one picture, those of Keras first, and its true masks if known."""
        self.pictures += 1
        differ = int((masks[0] != masks[1]).sum())
        self.equal_masks += differ == 0
        self.differing, self.mask_pixels = self.differing + differ, self.mask_pixels + int(masks[0].sum())
        self.largest_difference = max(self.largest_difference, float(np.abs(probs[0] - probs[1]).max()))
        if truth is not None:
            self.counts.append(tuple(_count(mask, truth) for mask in masks))  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """Pixels of masks that differ, in shares of the pixels of Keras's masks."""
        return self.differing / max(self.mask_pixels, 1)

    @property
    def dice_loss(self) -> float | None:
        """How much micro Dice is lost, the mean over the classes there are; None without true masks."""
        if not self.counts:
            return None
        both = np.array(self.counts).sum(axis=0)  # (2, 3, C)
        ours, theirs = (micro_dice(*(n[None] for n in side)) for side in both)
        return float(np.nanmean(ours) - np.nanmean(theirs))

    def report(self) -> dict[str, Any]:
        """What parity.json says of it."""
        shown = ("pictures", "equal_masks", "largest_difference")
        told = {name: getattr(self, name) for name in shown}
        return told | {"share_of_pixels": self.share, "dice_loss": self.dice_loss}


def _count(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Shared, true and predicted pixels of each class: (3, C)."""
    return np.array([(masks & truth).sum(axis=(0, 1)), truth.sum(axis=(0, 1)), masks.sum(axis=(0, 1))])


def choose_best(latency: Mapping[str, float], found: Mapping[str, Comparison]) -> str:
    """Name the fastest, Keras among them, whose masks are near enough: see CLOSE and LOST."""
    near = [name for name, one in found.items() if one.share <= CLOSE and (one.dice_loss or 0) <= LOST]
    return min([KERAS, *near], key=lambda name: latency[name])


def time_all(run: Experiment, folders: Mapping[str, Path], pictures: Sequence[Path]) -> dict[str, Any]:
    """Time Keras and exports from file to list of defects, in one process for each number of threads.

    Returns:
        {"one" or "all": {"keras" or the export's name: milliseconds a picture}}, of each picture the least of
        several rounds, in which they take turns.
    """
    found = {}
    for told, threads in (("one", 1), ("all", 0)):
        before = dict(os.environ)
        if threads:  # TensorFlow reads them when it starts, and cannot be told later
            os.environ |= {
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            }
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found[told] = pool.submit(_time, files.ROOT, run, dict(folders), pictures, threads).result()
        finally:
            os.environ.clear()
            os.environ.update(before)
    return found


def _time(
    root: Path, run: Experiment, folders: Mapping[str, Path], pictures: Sequence[Path], threads: int
) -> dict[str, float]:
    files.ROOT = root
    networks, thresholds = load_networks(run, "infer"), read_thresholds(run.output / "thresholds.json")
    ours = partial(find_by_keras, run, networks, thresholds)
    finders: dict[str, Callable] = {KERAS: ours}
    finders |= {name: load_code(folder).Finder(folder, threads) for name, folder in folders.items()}
    least = {name: np.full(len(pictures), np.inf) for name in finders}
    for turn in range(ROUNDS + 1):  # the first warms up
        for place, picture in enumerate(pictures):
            for name, find in finders.items():
                start = time.perf_counter()
                find(picture)
                if turn:
                    least[name][place] = min(least[name][place], time.perf_counter() - start)
    return {name: float(1000 * times.mean()) for name, times in least.items()}


def find_by_keras(
    run: Experiment, networks: Sequence[Any], thresholds: Sequence[ClassThreshold], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Give probabilities and masks of a picture, (H, W, C), after all that `make infer` does with it."""
    _, probs = next(predict_folder(networks, path.parent, [path.name]))
    read_image(path, run.load_parts()[0].data.channels, run.info.bits)
    probs = line.restrict(probs, run.line)
    masks = make_masks(probs, thresholds, run.info.exclusive)
    inspection.list_defects(path.name, masks, probs, run.info, run.line.mm_per_pixel)
    return probs, masks
