"""Per-image pixel counts, from which all metrics follow: those of any set of images are a sum of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve

from defectmill.files import DefectmillError
from defectmill.labels import draw_runs, runs_by_image
from defectmill.scores import count_pixels

EDGE_TOLERANCE = 2  # pixels at the image's own size
COUNTS = ["both", "truth", "predicted"]
COUNTS += ["edge_truth", "edge_truth_met", "edge_predicted", "edge_predicted_met"]
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
LEVELS = 256  # of probability, for precision-recall curves
Pairs = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class PixelCounts:
    """Counts of N images: (N, C, 7) int64 in the order of COUNTS.

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
    """Count the pixels of each class, and how many edge pixels have a counterpart nearby.

    Edge pixels are a mask's own outermost; the image's rim is no edge. Met: the other mask has an edge
    within `tolerance` pixels, as the boundary measure of Csurka et al., BMVC 2013. Takes (H, W, C) in
    {0, 1}, gives (C, 7) int64 in the order of COUNTS.
    """
    counts = np.zeros((truth.shape[2], len(COUNTS)), np.int64)
    counts[:, :3] = np.concatenate(count_pixels(truth, predicted)).T
    for channel in np.flatnonzero(counts[:, 1:3].any(axis=1)):
        true, guessed = (find_edge(masks[:, :, channel]) for masks in (truth, predicted))
        counts[channel, 3:5] = true.sum(), (true & _near(guessed, tolerance)).sum()
        counts[channel, 5:7] = guessed.sum(), (guessed & _near(true, tolerance)).sum()
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
        levels = np.rint(probs * (LEVELS - 1)).astype(np.int64) + np.where(truth, LEVELS, 0)
        pixels += [np.bincount(level.ravel(), minlength=2 * LEVELS) for level in np.moveaxis(levels, 2, 0)]
    scores, is_true, rows = np.tile(np.linspace(0, 1, LEVELS), 2), np.arange(2 * LEVELS) >= LEVELS, []
    for name, weights in zip(class_names, pixels, strict=True):
        if weights[is_true].any():
            precision, recall, thresholds = precision_recall_curve(is_true, scores, sample_weight=weights)
            # Not strict: a last point, where no pixel is predicted, has no threshold.
            rows += [(name, *row) for row in zip(thresholds, precision, recall, strict=False)]
    return pd.DataFrame(rows, columns=["class", "threshold", "precision", "recall"])


def _near(edge: np.ndarray, tolerance: int) -> np.ndarray:
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) <= tolerance
