"""The search of class thresholds on drawn validation maps, beside what it was first: point by point."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import cv2
import numpy as np

from benchmarks.measuring import Row, compare, least_seconds
from defectmill.prediction.postprocess import ClassThreshold, cut_by_expected_dice
from defectmill.prediction.thresholds import GridSearch, search_grid
from defectmill.scores import LEVELS
from defectmill.settings import PredictSettings

SHAPE, SHARES = (128, 800), (0.07, 0.02, 0.41, 0.064)  # of a network's maps; images with each class
AREAS = [500.0, 300.0, 900.0, 1500.0]
EXPECTED = PredictSettings().expected_dice
N_MAPS = 100  # of 2,500: one map is searched after the other
Maps = Sequence[tuple[np.ndarray, np.ndarray]]


def measure() -> Iterator[Row]:
    """Measure thresholds of all images, and the default grid, which tries one of each image, too."""
    maps = [*draw_maps(N_MAPS, np.random.default_rng(0))]
    for exclusive, kind in ((False, "classes may overlap"), (True, "one class a pixel")):
        for expected, grid in (((), "thresholds of all images"), (EXPECTED, "default grid")):

            def ours(some: Maps, exclusive: bool = exclusive, expected: tuple = expected) -> GridSearch:
                return search(some, exclusive, expected)

            points = ours(maps[:1]).class_thresholds

            def former(some: Maps, points: list = points, exclusive: bool = exclusive) -> np.ndarray:
                return search_as_before(some, points, exclusive)

            seconds = least_seconds([ours, former], [maps], 4)
            what = f"threshold search, a map of 2,500, {grid}, {kind}"
            yield compare(what, "as it was", seconds, 5, len(maps))


def search(maps: Maps, exclusive: bool, expected: tuple[float, ...] = EXPECTED) -> GridSearch:
    """Ours, with a calibration as that of crops: what a network says is too much."""
    calibration = np.tile(np.linspace(0, 1, LEVELS) ** 1.5, (len(SHARES), 1))
    return search_grid(maps, PredictSettings(expected_dice=expected), AREAS, exclusive, calibration)


def search_as_before(maps: Maps, points: list[list[ClassThreshold]], exclusive: bool) -> np.ndarray:
    """As it was: each point for itself, in the whole map, whose channels lie side by side."""
    counts = []
    for probs, truth in maps:
        if exclusive:
            best = (probs * np.array([mine[0].weight for mine in points], probs.dtype)).argmax(axis=-1)
            probs = np.where(np.arange(probs.shape[-1]) == best[..., None], probs, 0)
        counts.append([_count(probs[..., c], truth[..., c], mine) for c, mine in enumerate(points)])
    return np.array(counts)


def _count(probs: np.ndarray, truth: np.ndarray, points: Sequence[ClassThreshold]) -> np.ndarray:
    rows, n_true, own = [], truth.sum(), (1.0, 0.0)
    if curve := points[-1].calibration:
        own = cut_by_expected_dice(probs, curve)
    cuts = [
        p.threshold if not p.expected_dice else own[0] if own[1] >= p.expected_dice else 1 for p in points
    ]
    for threshold, some in groupby(zip(cuts, points, strict=True), lambda pair: pair[0]):
        components, areas, peaks = _find_components(probs, threshold)
        shared = np.bincount(components[truth > 0], minlength=len(areas) + 1)[1:]
        for _, point in some:
            keep = (areas >= point.minimum_area) & (peaks >= point.high_threshold)
            rows.append((shared[keep].sum(), n_true, areas[keep].sum()))
    return np.array(rows, np.int64)


def _find_components(probs: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    above = probs > threshold
    if not above.any():
        return np.zeros(probs.shape, np.int32), np.zeros(0, np.int64), np.zeros(0, probs.dtype)
    n, components = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    numbers, peaks = components[above].astype(np.int64), np.zeros(n, probs.dtype)
    np.maximum.at(peaks, numbers, probs[above])
    return components, np.bincount(numbers, minlength=n)[1:], peaks[1:]


def draw_maps(n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw (probs, truth), (H, W, C) float32 in LEVELS steps and uint8: blobs, missed, shifted or false."""
    size = SHAPE[::-1]
    for _ in range(n):
        probs, truth = np.zeros((*SHAPE, len(SHARES)), np.float32), np.zeros((*SHAPE, len(SHARES)), np.uint8)
        for channel, share in enumerate(SHARES):
            noise = cv2.resize(rng.random((8, 50), np.float32), size)
            probs[..., channel] = 0.12 * noise**4 + 0.01 * rng.random(SHAPE, np.float32)
            is_there, is_false = rng.random() < share, rng.random() < 0.1
            for _ in range(int(rng.integers(1, 6)) if is_there else int(is_false)):
                blob = np.zeros(SHAPE, np.uint8)
                centre, axes = rng.integers((0, 0), size).tolist(), rng.integers(3, 40 if is_there else 12, 2)
                cv2.ellipse(blob, centre, axes.tolist(), float(rng.integers(180)), 0, 360, 1, -1)
                truth[..., channel] |= blob * is_there
                moved = np.roll(blob, rng.integers(-3, 4, 2), (0, 1)).astype(np.float32)
                height = rng.choice([0, 1], p=[0.15, 0.85]) * rng.uniform(0.3, 1) * (0.8 + 0.2 * noise)
                one = probs[..., channel]
                np.maximum(one, cv2.GaussianBlur(moved, (0, 0), 4) * height, out=one)
        yield np.rint(probs * (LEVELS - 1)).astype(np.float32) / np.float32(LEVELS - 1), truth
