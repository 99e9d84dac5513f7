"""Colour masks <-> class masks."""

from collections.abc import Sequence

import numpy as np

BACKGROUND = (0, 0, 0)

Colour = tuple[int, int, int]


def masks_from_colours(picture: np.ndarray, colours: Sequence[Colour]) -> tuple[np.ndarray, int]:
    """Read a colour mask; a colour off the palette counts as the nearest one on it.

    Args:
        picture: (H, W, 3) uint8 red-green-blue.
        colours: of the classes, in the order of the channels; background is black.
    Returns:
        (H, W, C) uint8 in {0, 1}, and how many pixels were off the palette.
    Raises:
        ValueError: two classes of one colour, or one as black as the background.
    """
    palette = np.array([BACKGROUND, *colours], np.int32)
    if len(np.unique(palette, axis=0)) < len(palette):
        raise ValueError(f"colours {list(colours)} are not all different and not black")
    packed = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    found, place = np.unique(packed, return_inverse=True)
    shades = np.stack([found >> 16, (found >> 8) & 255, found & 255], axis=1)
    distance = ((shades[:, None] - palette) ** 2).sum(axis=2)
    nearest = distance.argmin(axis=1)[place].reshape(picture.shape[:2])
    n_off = int((distance.min(axis=1) > 0)[place].sum())
    return (nearest[..., None] == np.arange(1, len(palette))).astype(np.uint8), n_off


def colours_from_masks(masks: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Draw class masks as a colour mask on black; where classes overlap the later one shows.

    Args:
        masks: (H, W, C) uint8 in {0, 1}.
    Returns:
        (H, W, 3) uint8 red-green-blue.
    """
    picture = np.zeros((*masks.shape[:2], 3), np.uint8)
    for channel, colour in enumerate(colours):
        picture[masks[:, :, channel] > 0] = colour
    return picture
