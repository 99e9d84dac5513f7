"""Raw folders of images and masks as a source might ship them, drawn; none is square."""

from pathlib import Path

import numpy as np

from defectmill.images import write_image

SHAPE = (24, 36)


def colour_mask(colour: tuple[int, int, int] = (255, 0, 0)) -> np.ndarray:
    """(24, 36, 3) uint8: a defect of 3 x 2 pixels on black."""
    mask = np.zeros((*SHAPE, 3), np.uint8)
    mask[2:5, 7:9] = colour
    return mask


def add_pair(folder: Path, name: str, mask: np.ndarray | None, number: int = 0, mask_name: str = "") -> None:
    """Write images/<name> with a texture of its own and masks/<mask name, else name>."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(60, 200, SHAPE, np.uint8)
    write_image(folder / "images" / name, noise)
    if mask is not None:
        write_image(folder / "masks" / (mask_name or name), mask)


def draw_rims() -> np.ndarray:
    """Masks of 40 x 60 pixels: class 3 with the rims of 1 and 2 that resizing left, and a scratch of 1."""
    numbers = np.zeros((40, 60), np.uint8)
    numbers[10:30, 20:50] = 3
    numbers[8:10, 18:52] = numbers[30:32, 18:52] = 1
    numbers[10:30, 18:20] = numbers[10:30, 50:52] = 2
    numbers[36, 5:9] = 1  # thin, but it touches no other class
    return (numbers[..., None] == [1, 2, 3]).astype(np.uint8)
