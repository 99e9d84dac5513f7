"""From probability maps to masks, by a class threshold for each class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.ndimage import binary_fill_holes

from defectmill.dataset_info import DatasetInfo
from defectmill.files import name_masks, write_atomically
from defectmill.images import colours_from_masks, write_image
from defectmill.labels import draw_runs, runs_by_image
from defectmill.scores import LEVELS

Maps = Iterable[tuple[str, np.ndarray]]  # image id, (H, W, C) probabilities
Pairs = Iterable[tuple[np.ndarray, np.ndarray]]  # (H, W, C) probabilities, (H, W, C) true masks


@dataclass(frozen=True)
class ClassThreshold:
    """What a connected component must have to be a defect of one class.

    threshold: probability that its pixels exceed. high_threshold: probability that its best pixel
    reaches (hysteresis, Canny 1986). minimum_area: pixels of the image. fill_holes: holes of a component are
    part of it. weight: what its probability counts beside those of other classes, where a pixel has one class
    only. A threshold of 1 predicts nothing.

    expected_dice: over 0, each image has a threshold of its own, see `cut_by_expected_dice`, and `threshold`
    is not used.
    calibration: how often a probability is right, LEVELS of them from 0 to 1.
    """

    threshold: float
    high_threshold: float
    minimum_area: int
    fill_holes: bool = False
    weight: float = 1.0
    expected_dice: float = 0.0
    calibration: tuple[float, ...] = field(default=(), repr=False)

    def cut(self, probs: np.ndarray) -> float:
        """Give the threshold of one image's (H, W) map of the class.

        Where `expected_dice` is over 0 that of `cut_by_expected_dice`, 1 where too little Dice is expected.
        """
        if not self.expected_dice:
            return self.threshold
        threshold, expected = cut_by_expected_dice(probs, self.calibration)
        return threshold if expected >= self.expected_dice else 1.0


def cut_by_expected_dice(probs: np.ndarray, calibration: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Find the threshold whose mask of a (H, W) map has the largest expected Dice, and give that, too.

    The expected Dice of n pixels is taken as 2 a / (n + b), a and b the sums of their and of all calibrated
    probabilities: the best mask of an image of which little is sure is cut lower (Lipton et al. 2014,
    arXiv:1402.1892; Dai and Li 2023, JMLR 24, RankDice).
    """
    levels = np.rint(probs * (LEVELS - 1)).astype(np.uint8)
    pixels = np.bincount(levels.ravel(), minlength=LEVELS)[::-1]
    sure = np.cumsum(pixels * np.asarray(calibration)[::-1])
    expected = 2 * sure / np.maximum(np.cumsum(pixels) + sure[-1], 1)
    best = int(expected.argmax())
    return max(LEVELS - 1.5 - best, 0) / (LEVELS - 1), float(expected[best])


def make_masks(probs: np.ndarray, thresholds: Sequence[ClassThreshold], exclusive: bool) -> np.ndarray:
    """Turn probabilities, (H, W, C) in [0, 1], into masks, (H, W, C) uint8 in {0, 1}.

    Args:
        thresholds: one a class; another number raises ValueError.
        exclusive: of several classes at a pixel only the most probable may stand.
    """
    probs = keep_likeliest(probs, [threshold.weight for threshold in thresholds]) if exclusive else probs
    maps = zip(np.moveaxis(probs, 2, 0), thresholds, strict=True)
    masks = np.stack([select_components(one, threshold) for one, threshold in maps], 2)
    if exclusive and any(threshold.fill_holes for threshold in thresholds):
        shared = masks.sum(axis=2, keepdims=True) > 1  # a defect of one class in a hole of another
        masks &= ~shared | (probs > 0)
    return masks.astype(np.uint8)


def keep_likeliest(probs: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """Set every class but that of the largest probability times weight to 0 at each pixel: (H, W, C)."""
    planes = np.ascontiguousarray(np.moveaxis(probs, -1, 0))  # a third of the time of argmax over pixels
    weighted = planes if weights is None else planes * np.array(weights, probs.dtype)[:, None, None]
    keep = weighted == weighted.max(axis=0)
    for channel in range(1, len(keep)):
        keep[channel] &= ~keep[:channel].any(axis=0)  # of equal ones the first
    return np.moveaxis(planes * keep, 0, -1)


def select_components(probs: np.ndarray, wanted: ClassThreshold) -> np.ndarray:
    """Keep the connected components (8 neighbours) of one class that fulfil its threshold: (H, W) bool."""
    components, areas, peaks = find_components(probs, wanted.cut(probs), wanted.fill_holes)
    keep = (areas >= wanted.minimum_area) & (peaks >= wanted.high_threshold)
    return np.concatenate([[False], keep])[components]


def find_components(
    probs: np.ndarray, threshold: float, fill_holes: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the connected components of a (H, W) map above a threshold, with their holes where asked for.

    Returns:
        (H, W) int32 numbers (0 = none), and area and highest probability of each, from number 1 on.
    """
    above = probs > threshold
    if not above.any():  # most classes of most images
        return np.zeros(probs.shape, np.int32), np.zeros(0, np.int64), np.zeros(0, probs.dtype)
    above = binary_fill_holes(above) if fill_holes else above
    n, components = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    places = np.flatnonzero(above)
    numbers, peaks = components.ravel()[places].astype(np.int64), np.zeros(n, probs.dtype)
    np.maximum.at(peaks, numbers, probs.ravel()[places])
    return components, np.bincount(numbers, minlength=n)[1:], peaks[1:]


def write_colour_masks(labels: pd.DataFrame, images: pd.DataFrame, folder: Path, info: DatasetInfo) -> None:
    """Write <name>.png for every image of an image table, its classes in their colours; see `name_masks`.

    What `folder` held before goes.
    """
    runs, names = runs_by_image(labels), name_masks(images["ImageId"])
    with write_atomically(folder) as part:
        part.mkdir()
        for image_id, *shape in images[["ImageId", "height", "width"]].itertuples(index=False):
            masks = draw_runs(runs[image_id], shape, info.n_classes, image_id)
            write_image(part / f"{names[image_id]}.png", colours_from_masks(masks, info.colours))
