"""Aluminum surface defects: images and colour masks of 2560 x 1920 or 2560 x 2048.

The masks were once resized as numbers: between background, 0, and class 4 lies a thin ring of
classes 1, 2 and 3. Such rings are undone, or every picture would seem to hold every class.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from defectmill.cards import Card
from defectmill.datasets import colour_masks
from defectmill.datasets.competition import Picture

NOTES = colour_masks.NOTES
RING = "mask pixels of a thin ring of another class, given to what they border"
THIN = np.ones((5, 5), np.uint8)  # what holds no square of this is thin


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Read as `colour_masks` does, and undo the rings."""
    for picture in colour_masks.read_raw(raw, card):
        masks, n = undo_rings(picture.masks)
        yield replace(picture, masks=masks, odd={**picture.odd, RING: n})


def undo_rings(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """Give thin blobs that touch another class to the nearest class or background beside them.

    Args:
        masks: (H, W, C) uint8 in {0, 1}, without overlap.
    Returns:
        the same, mended, and how many pixels changed hands.
    """
    numbers = (masks * np.arange(1, masks.shape[2] + 1, dtype=np.uint8)).max(axis=2)
    ring = np.zeros(numbers.shape, bool)
    for channel in range(masks.shape[2]):
        n, blobs = cv2.connectedComponents(masks[:, :, channel], connectivity=8)
        thick = np.unique(blobs[cv2.erode(masks[:, :, channel], THIN) > 0])
        others = ((numbers > 0) & (numbers != channel + 1)).astype(np.uint8)
        touching = np.unique(blobs[cv2.dilate(others, np.ones((3, 3), np.uint8)) > 0])
        thin = np.setdiff1d(np.intersect1d(np.arange(1, n), touching), thick)
        ring |= np.isin(blobs, thin)
    if not ring.any():
        return masks, 0
    rows, columns = distance_transform_edt(ring, return_distances=False, return_indices=True)
    mended = numbers[rows, columns]
    return (mended[..., None] == np.arange(1, masks.shape[2] + 1)).astype(np.uint8), int(ring.sum())
