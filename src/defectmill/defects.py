"""Defect tables: one row a defect, that is, a blob (8-connected) of the mask of one class.

Pixels of the picture count from 0, rows down and columns right.
"""

import cv2
import numpy as np
import pandas as pd

from defectmill.cards import Card

COLUMNS = [
    "ImageId", "ClassId", "class", "area", "top", "left", "height", "width", "centroid_row",
    "centroid_column", "mean_probability",
]  # fmt: skip


def list_defects(image_id: str, masks: np.ndarray, probs: np.ndarray, card: Card) -> pd.DataFrame:
    """List the defects of one picture, by class, the largest first.

    Args:
        masks: (H, W, C) uint8 in {0, 1}.
        probs: (H, W, C) float in [0, 1].
    Returns:
        ImageId, ClassId, class (its name), area in pixels, bounding box (top, left, height,
        width), centroid (row, column), and the mean probability of the pixels.
    Raises:
        ValueError: not one mask and one map a class, or of different shapes.
    """
    if masks.shape != probs.shape or masks.shape[2] != len(card.classes):
        raise ValueError(
            f"{image_id}: masks {masks.shape} and probabilities {probs.shape} of "
            f"{len(card.classes)} classes"
        )
    rows = []
    for channel, kind in enumerate(card.classes):
        mask = np.ascontiguousarray(masks[:, :, channel])
        if not mask.any():  # most classes of most pictures
            continue
        n, blobs, boxes, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
        sums = np.bincount(blobs.ravel(), probs[:, :, channel].ravel(), n)
        found = [
            (image_id, kind.id, kind.name, int(area), int(top), int(left), int(height),
             int(width), row, column, total / area)
            for (left, top, width, height, area), (column, row), total
            in zip(boxes[1:], centres[1:], sums[1:], strict=True)
        ]  # fmt: skip
        rows += sorted(found, key=lambda defect: -defect[3])
    return pd.DataFrame(rows, columns=COLUMNS)


def summarize_defects(defects: pd.DataFrame) -> pd.DataFrame:
    """Count the defects of each class found: defects, images, areas in pixels."""
    return defects.groupby(["ClassId", "class"]).agg(
        defects=("area", "size"), images=("ImageId", "nunique"), smallest=("area", "min"),
        median=("area", "median"), largest=("area", "max"),
    )  # fmt: skip
