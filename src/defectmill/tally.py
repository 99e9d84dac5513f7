"""Tallies: counts of one picture that add up over pictures, enough for every measure.

Counts of any set of pictures are a sum of rows, so that measures stream and resample.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from defectmill.labels import draw_runs, runs_by_image

EDGE_TOLERANCE = 2  # pixels at the picture's own size
COUNTS = (
    "both", "truth", "predicted", "edge_truth", "edge_truth_met", "edge_predicted",
    "edge_predicted_met",
)  # fmt: skip
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Tally:
    """What many pictures counted.

    image_ids: (N,). counts: (N, C, 7) int64, in the order of COUNTS. confusion: (C + 1, C + 1)
    int64 pixels of all pictures, truth down, prediction across, background last.
    """

    image_ids: list[str]
    counts: np.ndarray
    confusion: np.ndarray


def tally_labels(truth: pd.DataFrame, predicted: pd.DataFrame, images: pd.DataFrame) -> Tally:
    """Count two label tables of the same images, one picture at a time.

    Args:
        images: image table of those images, for their shapes.
    Raises:
        KeyError: an image is missing from the truth or the prediction.
    """
    n_classes = int(truth["ClassId"].max())
    true, guessed = runs_by_image(truth), runs_by_image(predicted)
    rows = images[["ImageId", "height", "width"]].itertuples(index=False)
    return tally_pairs(
        (i, *(draw_runs(runs[i], (height, width), n_classes, i) for runs in (true, guessed)))
        for i, height, width in rows
    )


def tally_pairs(pairs: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Tally:
    """Count (image id, truth, prediction), both (H, W, C) in {0, 1}, read once.

    Raises:
        ValueError: no pictures.
    """
    ids, counts, confusion = [], [], 0
    for image_id, truth, predicted in pairs:
        ids.append(image_id)
        counts.append(tally_masks(truth, predicted))
        confusion = confusion + confuse(truth, predicted)
    if not ids:
        raise ValueError("no pictures to measure")
    return Tally(ids, np.stack(counts), confusion)


def tally_masks(
    truth: np.ndarray, predicted: np.ndarray, tolerance: int = EDGE_TOLERANCE
) -> np.ndarray:
    """Count the pixels of each class, and how many edge pixels have a counterpart nearby.

    Edge pixels are a mask's own outermost; the picture's rim is no edge. Met: the other mask has
    an edge within `tolerance` pixels, as the boundary measure of Csurka et al., BMVC 2013.

    Args:
        truth, predicted: (H, W, C) in {0, 1}.
    Returns:
        (C, 7) int64, in the order of COUNTS.
    """
    counts = np.zeros((truth.shape[2], len(COUNTS)), np.int64)
    for row, true, guessed in zip(
        counts, np.moveaxis(truth, 2, 0), np.moveaxis(predicted, 2, 0), strict=True
    ):
        row[:3] = (true & guessed).sum(), true.sum(), guessed.sum()
        if row[1] or row[2]:
            true_edge, guessed_edge = (find_edge(mask) for mask in (true, guessed))
            row[3:5] = true_edge.sum(), (true_edge & _near(guessed_edge, tolerance)).sum()
            row[5:7] = guessed_edge.sum(), (guessed_edge & _near(true_edge, tolerance)).sum()
    return counts


def find_edge(mask: np.ndarray) -> np.ndarray:
    """Mark the pixels of a (H, W) mask that touch what is outside of it: (H, W) bool."""
    solid = np.ascontiguousarray(mask, np.uint8)
    return (solid > 0) & (cv2.erode(solid, CROSS) == 0)


def confuse(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count pixels by true class (down) and predicted class (across), background last.

    A pixel of several classes counts in each of them.

    Args:
        truth, predicted: (H, W, C) in {0, 1}.
    Returns:
        (C + 1, C + 1) int64.
    """
    true, guessed = (_with_background(masks) for masks in (truth, predicted))
    matrix = np.zeros((len(true), len(guessed)), np.int64)
    for i, mask in true.items():
        for j, other in guessed.items():
            matrix[i, j] = np.count_nonzero(mask & other)
    return matrix


def _with_background(masks: np.ndarray) -> dict[int, np.ndarray]:
    present = {c: masks[:, :, c] > 0 for c in range(masks.shape[2])}
    return {**present, masks.shape[2]: ~masks.any(axis=2)}


def _near(edge: np.ndarray, tolerance: int) -> np.ndarray:
    if not edge.any():
        return edge
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) <= tolerance
