"""Synthetic pictures of rolled steel with defects, in the format of Severstal's competition.

Picture i is a pure function of (seed, i). Masks are polygons on a 4-pixel grid that stand off the
visible defect, as an annotator draws them. Between machines a grey level may differ by one, where
their float arithmetic rounds differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from defectmill.cards import Card
from defectmill.datasets.competition import Picture
from defectmill.datasets.steel_defects import CELL, PAINTERS, drop_specks
from defectmill.datasets.steel_texture import HEIGHT, WIDTH, draw_steel

N_TRAIN = 240
N_TEST = 80
SEED = 2026  # with it even the 80 test pictures hold each class four times or more
NOTES = (f"drawn from seed {SEED}: {N_TRAIN} training and {N_TEST} test pictures",)

# Share of pictures with these classes: each class about as often as in the real data (class 2
# twice as often, else 320 pictures hold too few of it).
SHARES = {
    (): 0.47,
    (1,): 0.05,
    (2,): 0.03,
    (3,): 0.35,
    (4,): 0.06,
    (1, 2): 0.01,
    (1, 3): 0.01,
    (3, 4): 0.02,
}


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Draw the competition; nothing is read."""
    for image_id, part, image, masks in draw_pictures():
        yield Picture(image_id, image, masks, part)


def draw_pictures(
    seed: int = SEED, n_train: int = N_TRAIN, n_test: int = N_TEST
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield (image_id, "train" or "test", image, masks), the training pictures first.

    Image and masks are those of `draw_picture`.
    """
    for index in range(n_train + n_test):
        rng = np.random.default_rng([seed, index])
        image, masks = draw_picture(rng, draw_class_ids(rng))
        yield make_image_id(seed, index), "train" if index < n_train else "test", image, masks


def make_image_id(seed: int, index: int) -> str:
    """Make a name of nine hexadecimal digits, unique among the indexes of a seed."""
    # an odd multiplier permutes the numbers below a power of two
    return f"{(0x9E3779B97 * (index + 1) + 0x5851F42D5 * seed) % 16**9:09x}.jpg"


def draw_class_ids(rng: np.random.Generator) -> tuple[int, ...]:
    """Draw the classes that a picture has: none, one or two ids in 1..4, ascending."""
    return list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))]


def draw_picture(
    rng: np.random.Generator, class_ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture of steel with defects of the given classes.

    Args:
        class_ids: different ids in 1..4, or none.
    Returns:
        image (256, 1600) uint8 and masks (256, 1600, 4) uint8 in {0, 1}, channel = class id - 1.
        Masks do not overlap; a class has pixels exactly if it is in `class_ids`.
    Raises:
        ValueError: an id that is unknown or given twice.
    """
    if len(set(class_ids)) < len(class_ids) or not set(class_ids) <= set(PAINTERS):
        raise ValueError(f"class ids must differ and be among {sorted(PAINTERS)}: {class_ids}")
    steel, (left, right) = draw_steel(rng)
    masks = np.zeros((HEIGHT, WIDTH, len(PAINTERS)), np.uint8)
    # each class has its own range of columns, so masks cannot overlap
    edges = np.linspace(left, right, len(class_ids) + 1).astype(int) // CELL * CELL
    order = rng.permutation(np.array(class_ids, int))
    for class_id, (start, stop) in zip(order, pairwise(edges), strict=True):
        mask = np.zeros((HEIGHT, stop - start), np.uint8)
        while not mask.any():
            painted, mask = PAINTERS[class_id](rng, steel[:, start:stop])
            mask = drop_specks(mask)
        steel[:, start:stop] = painted
        masks[:, start:stop, class_id - 1] = mask
    return np.clip(steel + 0.5, 0, 255).astype(np.uint8), masks
