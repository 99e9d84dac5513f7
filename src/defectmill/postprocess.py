"""From probability maps to masks, by a rule for each class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from defectmill.labels import COLUMNS
from defectmill.rle import mask_to_rle


@dataclass(frozen=True)
class Rule:
    """What a blob must have to be a defect of one class.

    threshold: probability its pixels exceed. peak: probability its best pixel reaches.
    minimum_area: pixels of the picture. A threshold of 1 predicts nothing.
    """

    threshold: float
    peak: float
    minimum_area: int


def make_masks(probs: np.ndarray, rules: Sequence[Rule], exclusive: bool) -> np.ndarray:
    """Turn probabilities into masks.

    Args:
        probs: (H, W, C) float in [0, 1].
        exclusive: of several classes at a pixel only the likeliest may stand.
    Returns:
        (H, W, C) uint8 in {0, 1}.
    Raises:
        ValueError: not one rule a class.
    """
    probs = keep_likeliest(probs) if exclusive else probs
    masks = np.zeros(probs.shape, np.uint8)
    for channel, rule in zip(range(probs.shape[2]), rules, strict=True):
        masks[:, :, channel] = select_blobs(probs[:, :, channel], rule)
    return masks


def keep_likeliest(probs: np.ndarray) -> np.ndarray:
    """Set every class but the likeliest to 0 at each pixel: (H, W, C)."""
    best = probs.argmax(axis=-1, keepdims=True)
    return np.where(np.arange(probs.shape[-1]) == best, probs, 0)


def select_blobs(probs: np.ndarray, rule: Rule) -> np.ndarray:
    """Keep the blobs (8-connected) of one class that obey the rule: (H, W) bool."""
    blobs, areas, peaks = find_blobs(probs, rule.threshold)
    keep = np.concatenate([[False], (areas >= rule.minimum_area) & (peaks >= rule.peak)])
    return keep[blobs]


def masks_to_labels(masks: Iterable[tuple[str, np.ndarray]]) -> pd.DataFrame:
    """Write (image id, (H, W, C) masks) pairs as a label table with a row for every class."""
    rows = [
        (image_id, channel + 1, mask_to_rle(mask[:, :, channel]))
        for image_id, mask in masks
        for channel in range(mask.shape[2])
    ]
    labels = pd.DataFrame(rows, columns=COLUMNS[:3])
    labels["hasMask"] = labels["EncodedPixels"] != ""
    return labels


def find_blobs(probs: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blobs above a threshold: numbered picture (0 = none), areas, highest probabilities."""
    above = probs > threshold
    if not above.any():  # most classes of most pictures
        return np.zeros(probs.shape, np.int32), np.zeros(0, np.int64), np.zeros(0, probs.dtype)
    n, blobs = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    areas = np.bincount(blobs[above], minlength=n)[1:]
    peaks = np.zeros(n, probs.dtype)
    np.maximum.at(peaks, blobs[above], probs[above])
    return blobs, areas, peaks[1:]
