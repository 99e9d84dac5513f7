"""Synthetic images of rolled steel with defects, in the format of Severstal's competition.

Image i is a pure function of (seed, i); between machines a grey level may differ by one, where their float
arithmetic rounds differently. Masks are polygons that keep a distance from the visible defect, as an
annotator draws them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets.competition import Picture
from defectmill.datasets.sample.defects import CELL, DRAW, drop_specks
from defectmill.datasets.sample.texture import HEIGHT, WIDTH, draw_steel

N_TRAIN, N_TEST = 240, 80
SEED = 2026  # with it even the 80 test images hold each class four times or more
NOTES = (f"drawn from seed {SEED}: {N_TRAIN} training and {N_TEST} test images",)

# Share of images with these classes: each class about as often as in the real data (class 2 twice as
# often, else 320 images hold too few of it).
SHARES = {(): 0.47, (1,): 0.05, (2,): 0.03, (3,): 0.35, (4,): 0.06, (1, 2): 0.01, (1, 3): 0.01, (3, 4): 0.02}


def read_raw(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Draw the competition; nothing is read."""
    return draw_pictures()


def draw_pictures(seed: int = SEED, n_train: int = N_TRAIN, n_test: int = N_TEST) -> Iterator[Picture]:
    """Draw images and masks as `draw_picture` does, the training images first."""
    for index in range(n_train + n_test):
        rng = np.random.default_rng([seed, index])
        class_ids = list(SHARES)[rng.choice(len(SHARES), p=[*SHARES.values()])]
        image, masks = draw_picture(rng, class_ids)
        # An odd multiplier permutes the numbers below a power of two: no name comes twice.
        number = (0x9E3779B97 * (index + 1) + 0x5851F42D5 * seed) % 16**9
        yield Picture(f"{number:09x}.jpg", image, masks, "train" if index < n_train else "test")


def draw_picture(rng: np.random.Generator, class_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of steel with defects of the given classes.

    Args:
        class_ids: different ids in 1..4, or none; others are refused.
    Returns:
        image (256, 1600) uint8 and masks (256, 1600, 4) uint8 in {0, 1}, channel = class id - 1.
        Masks do not overlap; a class has pixels exactly if it is in `class_ids`.
    """
    if len(set(class_ids)) < len(class_ids) or not set(class_ids) <= set(DRAW):
        raise ValueError(f"class ids must differ and be among {sorted(DRAW)}: {class_ids}")
    steel, (left, right) = draw_steel(rng)
    masks = np.zeros((HEIGHT, WIDTH, len(DRAW)), np.uint8)
    # Each class has its own range of columns, so masks cannot overlap.
    edges = np.linspace(left, right, len(class_ids) + 1).astype(int) // CELL * CELL
    order = rng.permutation(np.array(class_ids, int))
    for class_id, (start, stop) in zip(order, pairwise(edges), strict=True):
        mask = np.zeros((HEIGHT, stop - start), np.uint8)
        while not mask.any():
            painted, mask = DRAW[class_id](rng, steel[:, start:stop])
            mask = drop_specks(mask)
        steel[:, start:stop] = painted
        masks[:, start:stop, class_id - 1] = mask
    return np.clip(steel + 0.5, 0, 255).astype(np.uint8), masks
