"""Per-image pixel counts, from which all metrics follow: those of any set of images are a sum of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from skimage.morphology import skeletonize
from sklearn.metrics import precision_recall_curve

from defectmill.files import DefectmillError, write_atomically
from defectmill.labels import draw_runs, runs_by_image
from defectmill.scores import LEVELS, count_levels, count_pixels

EDGE_TOLERANCE = 2  # pixels at the image's own size
COUNTS = ["both", "truth", "predicted"]
COUNTS += ["edge_truth", "edge_truth_met", "edge_predicted", "edge_predicted_met"]
COUNTS += ["line_truth", "line_truth_met", "line_predicted", "line_predicted_met"]
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
MOST_BINS = 16  # of areas: up to 4 ** 16 pixels, more than an image may have
Pairs = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class PixelCounts:
    """Counts of N images: (N, C, 11) int64 in the order of COUNTS.

    confusion: (C + 1, C + 1) int64 pixels of all images, truth down, prediction across, background last.
    """

    image_ids: list[str]
    counts: np.ndarray
    confusion: np.ndarray


def count_tables(truth: pd.DataFrame, predicted: pd.DataFrame, images: pd.DataFrame) -> PixelCounts:
    """Count two label tables of the same images; KeyError where one of the tables lacks an image.

    Args:
        images: image table of those images, for their shapes.
    """
    n_classes = int(truth["ClassId"].max())
    true, guessed = runs_by_image(truth), runs_by_image(predicted)
    return count_masks(
        (i, *(draw_runs(runs[i], shape, n_classes, i) for runs in (true, guessed)))
        for i, *shape in images[["ImageId", "height", "width"]].itertuples(index=False)
    )


def count_masks(pairs: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> PixelCounts:
    """Count (image id, truth, prediction), both (H, W, C) in {0, 1}, read once; DefectmillError for none."""
    ids, counts, confusion = [], [], np.zeros(1, np.int64)
    for image_id, truth, predicted in pairs:
        ids.append(image_id)
        counts.append(count_image(truth, predicted))
        confusion = confusion + confuse(truth, predicted)
    if not ids:
        raise DefectmillError("no images to measure")
    return PixelCounts(ids, np.stack(counts), confusion)


def count_image(truth: np.ndarray, predicted: np.ndarray, tolerance: int = EDGE_TOLERANCE) -> np.ndarray:
    """Count the pixels of each class, and how many of its edge and of its centre line the other mask meets.

    Edge pixels are a mask's own outermost; the image's rim is no edge. Met: the other mask has an edge
    within `tolerance` pixels, as the boundary measure of Csurka et al., BMVC 2013. Centre lines are
    skeletons, met where the other mask is, as clDice of Shit et al., CVPR 2021. Takes (H, W, C) in {0, 1},
    gives (C, 11) int64 in the order of COUNTS.
    """
    counts = np.zeros((truth.shape[2], len(COUNTS)), np.int64)
    counts[:, :3] = np.concatenate(count_pixels(truth, predicted)).T
    for channel in np.flatnonzero(counts[:, 1:3].any(axis=1)):
        true, guessed = (find_edge(masks[:, :, channel]) for masks in (truth, predicted))
        counts[channel, 3:5] = true.sum(), (true & _near(guessed, tolerance)).sum()
        counts[channel, 5:7] = guessed.sum(), (guessed & _near(true, tolerance)).sum()
        masks = truth[:, :, channel] > 0, predicted[:, :, channel] > 0
        for place, (mask, other) in zip((7, 9), (masks, masks[::-1]), strict=True):
            line = skeletonize(mask)
            counts[channel, place : place + 2] = line.sum(), (line & other).sum()
    return counts


def find_edge(mask: np.ndarray) -> np.ndarray:
    """Mark the pixels of a (H, W) mask that touch what is outside of it: (H, W) bool."""
    solid = np.ascontiguousarray(mask, np.uint8)
    return (solid > 0) & (cv2.erode(solid, CROSS) == 0)


def confuse(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count pixels by true class (down) and predicted class (across), background last.

    A pixel of several classes counts in each of them. Takes (H, W, C) in {0, 1}, gives (C + 1, C + 1) int64.
    """
    true, guessed = (np.dstack([masks > 0, ~masks.any(axis=2)]).astype(float) for masks in (truth, predicted))
    return np.tensordot(true, guessed, ([0, 1], [0, 1])).astype(np.int64)  # exact below 2^53 pixels


def soft_pixel_counts(pairs: Pairs, exclusive: bool) -> np.ndarray:
    """Sum the predicted probability of the true class, image by image.

    The first column over the last is FlexUNet's dice_coef_multiclass: mostly background, so it flatters.

    Args:
        pairs: (probs, truth), both (H, W, C), read once.
        exclusive: one class a pixel, background among them; else each pixel and class counts.
    Returns:
        (N, 3) float64: the sum, what predicting background alone would reach, how many were added.
    """
    rows = []
    for probs, truth in pairs:
        if exclusive:
            clean = ~truth.any(axis=-1)
            background = np.clip(1 - probs[clean].sum(axis=-1), 0, 1).sum(dtype=float)
            likely = (probs * truth).sum(dtype=float) + background
        else:
            clean = truth == 0
            likely = np.where(clean, 1 - probs, probs).sum(dtype=float)
        rows.append((likely, clean.sum(), clean.size))
    return np.array(rows, float).reshape(-1, 3)


def precision_recall_curves(pairs: Pairs, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision and recall of the pixels of each class at every threshold, in 256 levels.

    Args:
        pairs: (probs, truth), both (H, W, C), read once.
    Returns:
        One row a (class, threshold): class, threshold (pixels from it on are predicted), precision, recall;
        no row for a class that is not in the truth, nor for a level that no pixel has.
    """
    pixels = np.zeros((len(class_names), 2 * LEVELS))
    for probs, truth in pairs:
        pixels += count_levels(probs, truth)
    scores, is_true, rows = np.tile(np.linspace(0, 1, LEVELS), 2), np.arange(2 * LEVELS) >= LEVELS, []
    for name, weights in zip(class_names, pixels, strict=True):
        if weights[is_true].any():
            precision, recall, thresholds = precision_recall_curve(is_true, scores, sample_weight=weights)
            # Not strict: a last point, where no pixel is predicted, has no threshold.
            rows += [(name, *row) for row in zip(thresholds, precision, recall, strict=False)]
    return pd.DataFrame(rows, columns=["class", "threshold", "precision", "recall"])


def image_curves(pairs: Pairs, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision and recall of whole images at every threshold of an image's highest probability.

    Args:
        pairs: (probs, truth), both (H, W, C), read once.
    Returns:
        One row a (class, threshold), thresholds being the highest probabilities there are: class, threshold
        (images from it on are predicted), precision (share of these that have the class), recall (share of
        the images with the class that are predicted), false_alarm_rate (share of those without it, NaN where
        there is none); no row for a class that is not in the truth.
    """
    images, rows = [(probs.max(axis=(0, 1)), truth.any(axis=(0, 1))) for probs, truth in pairs], []
    peaks, has = np.array(images).reshape(-1, 2, len(class_names)).transpose(1, 2, 0)
    for name, peak, present in zip(class_names, peaks, has > 0, strict=True):
        n, levels = present.sum(), np.unique(peak)
        if n:
            parts = (np.sort(peak[part]) for part in (present, ~present))
            hits, alarms = (len(part) - np.searchsorted(part, levels) for part in parts)
            shares = hits / (hits + alarms), hits / n, alarms / (len(peak) - n or np.nan)
            rows += [(name, *row) for row in zip(levels, *shares, strict=True)]
    return pd.DataFrame(rows, columns=["class", "threshold", "precision", "recall", "false_alarm_rate"])


def component_table(truth: pd.DataFrame, predicted: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Count the connected components (8 neighbours) of each image by class and area: what is hit, what false.

    A true component is hit where at least one of its pixels is predicted as its class; a predicted one is
    false where none of its pixels is truly of its class.

    Args:
        truth, predicted: label tables of the same images.
        images: image table of those images, for their shapes.
    Returns:
        One row a (class, bin) from the smallest area there is to the largest: ClassId, smallest, largest
        (areas of the bin in pixels, whole powers of 4), true, hit, recall (hit / true), predicted, false,
        precision (1 - false / predicted); a share of nothing is NaN.
    """
    n_classes = int(truth["ClassId"].max())
    tables = [runs_by_image(table) for table in (truth, predicted)]
    counts = np.zeros((2, n_classes, MOST_BINS, 2), np.int64)  # true or predicted, class, bin, met or not
    for image_id, *shape in images[["ImageId", "height", "width"]].itertuples(index=False):
        masks = [draw_runs(runs[image_id], shape, n_classes, image_id) for runs in tables]
        for kind, (mine, other) in enumerate((masks, masks[::-1])):
            for channel in np.flatnonzero(mine.any(axis=(0, 1))).tolist():
                n, numbers = cv2.connectedComponents(mine[:, :, channel].copy(), connectivity=8)
                met = np.bincount(numbers[other[:, :, channel] > 0], minlength=n)[1:] > 0
                bins = (np.frexp(np.bincount(numbers.ravel())[1:])[1] - 1) // 2  # whole logarithm to base 4
                np.add.at(counts[kind, channel], (bins, met.astype(int)), 1)
    used = np.flatnonzero(counts.any(axis=(0, 1, 3)))
    bins = np.arange(used[0], used[-1] + 1) if used.size else used
    (missed, hit), (false, right) = (part.reshape(-1, 2).T for part in counts[:, :, bins])
    table = pd.DataFrame({"ClassId": np.repeat(np.arange(1, n_classes + 1), len(bins))})
    low = np.tile(4**bins, n_classes)
    table = table.assign(smallest=low, largest=4 * low - 1, true=missed + hit, hit=hit)
    table = table.assign(recall=table["hit"] / table["true"], predicted=false + right, false=false)
    return table.assign(precision=1 - table["false"] / table["predicted"])


def write_counts(counts: np.ndarray, path: Path) -> None:
    """Write pixel counts, such as of `thresholds.nested_counts`, as a .npy file."""
    with write_atomically(path) as part:
        np.save(part, counts)


def _near(edge: np.ndarray, tolerance: int) -> np.ndarray:
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) <= tolerance
