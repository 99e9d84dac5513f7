"""Rims of wrong classes around defects, which masks have that were once resized with interpolation."""

from collections.abc import Sequence
from itertools import permutations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from defectmill.dataset_info import Colour

WIDE = 3  # pixels: a rim is no wider


def find_mixtures(values: Sequence[Colour], near: float, exact: bool) -> list[tuple[int, int]]:
    """List the channels (k, j) where interpolation between background and j may pass the colour of k.

    Args:
        values: colours of the classes, or their numbers three times; background is 0.
        near: how far from an exact mixture the colour of k may be, 0..255.
        exact: the mask holds the values of classes only; else it was interpolated, and any k may be a rim.
    """
    shades = np.array(values, float)
    pairs = []
    for k, j in permutations(range(len(shades)), 2):
        share = shades[k] @ shades[j] / max(shades[j] @ shades[j], 1)
        between = 0 < share < 1 and np.linalg.norm(shades[k] - share * shades[j]) <= near
        if between or not exact:
            pairs.append((k, j))
    return pairs


def undo_rims(masks: np.ndarray, mixtures: Sequence[tuple[int, int]] | None = None) -> tuple[np.ndarray, int]:
    """Undo what interpolation made of class numbers or colours, such as a rim of 1 around class 2.

    A rim is a connected component that touches another class and holds no square of 5 x 5 pixels. Its pixels
    are given to the nearest class or background beside them.

    Args:
        masks: (H, W, C) uint8 in {0, 1}, without overlap.
        mixtures: where given, only a component of channel k no pixel of which is farther than WIDE from
            channel j is a rim, for these (k, j).
    Returns:
        (H, W, C) uint8 without rims, and how many pixels were given away.
    """
    class_ids = np.arange(1, masks.shape[2] + 1, dtype=np.uint8)
    numbers = (masks * class_ids).max(axis=2)
    rim = np.zeros(numbers.shape, bool)
    present = set(np.unique(numbers).tolist()) - {0}
    for k in sorted(present):
        others = present - {k} if mixtures is None else {j + 1 for i, j in mixtures if i + 1 == k} & present
        if not others:
            continue
        mine, around = (numbers == k).astype(np.uint8), np.isin(numbers, list(others))
        n, components = cv2.connectedComponents(mine, connectivity=8)
        thick = components[cv2.erode(mine, np.ones((5, 5), np.uint8)) > 0]
        touching = components[cv2.dilate(around.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0]
        thin = np.setdiff1d(np.intersect1d(np.arange(1, n), touching), thick)
        if mixtures is not None:
            far = components[cv2.dilate(around.astype(np.uint8), np.ones((2 * WIDE + 1,) * 2, np.uint8)) == 0]
            thin = np.setdiff1d(thin, far)
        rim |= np.isin(components, thin)
    if not rim.any():
        return masks, 0
    rows, columns = distance_transform_edt(rim, return_distances=False, return_indices=True)
    return (numbers[rows, columns][..., None] == class_ids).astype(np.uint8), int(rim.sum())
