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
