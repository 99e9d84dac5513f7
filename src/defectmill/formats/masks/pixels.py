"""Mask files as they are: numbers, colours, opacity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defectmill.dataset_info import Colour
from defectmill.formats.shapes import FormatError
from defectmill.images import BLACK, ImageError, open_picture

NEAR = 40  # 0..255: colours that are no farther apart are one, saved with loss
VOID = 255  # of index masks: no class, such as the border that Pascal VOC draws


@dataclass(frozen=True)
class Pixels:
    """A mask file as it is: numbers (H, W) of a grey file or palette, colours (H, W, 3); 0 if transparent."""

    numbers: np.ndarray | None
    colours: np.ndarray | None
    alpha: np.ndarray | None = None  # (H, W) uint8, where there is any
    jpeg: bool = False

    @property
    def greys(self) -> np.ndarray | None:
        """How bright a grey file is, (H, W) int32, of a grey palette as it looks; None for colours."""
        if self.colours is None:
            return self.numbers
        is_grey = (self.colours == self.colours[:, :, :1]).all()
        return self.colours[:, :, 0].astype(np.int32) if is_grey else None

    @property
    def shades(self) -> np.ndarray:
        """The colours, (H, W, 3) uint8, of a grey file too."""
        if self.colours is not None:
            return self.colours
        assert self.numbers is not None
        return np.repeat(self.numbers[..., None].clip(0, VOID), 3, axis=2).astype(np.uint8)


def read_pixels(path: Path) -> Pixels:
    """Read a mask file by its content; FormatError where it is none."""
    try:
        with open_picture(path) as image:
            jpeg, mode = image.format in ("JPEG", "MPO"), image.mode
            alpha = np.array(image.convert("RGBA"))[:, :, 3] if image.has_transparency_data else None
            is_grey = mode[0] in "1LIF"  # Pillow's modes: 1, L, LA, I;16, I, F
            colours = None if is_grey else np.array(image.convert("RGB"))
            numbers = np.array(image) if is_grey or mode == "P" else None
    except ImageError as error:
        raise FormatError(str(error)) from error
    if alpha is not None and alpha.min() == alpha.max() > 0:
        alpha = None
    if colours is not None and numbers is None and (is_dark_channel(colours) and not jpeg):
        numbers, colours = colours.max(axis=2), None
    if numbers is not None:
        numbers = numbers[:, :, 0] if numbers.ndim == 3 else numbers
        if (numbers != np.round(numbers)).any() or numbers.min() < 0:
            low, high = numbers.min(), numbers.max()
            seen = f"a mask holds whole numbers from 0 on, not {low:g} to {high:g}"
            raise FormatError(f"{path}: {seen}; save it as a PNG of 0 and 255, or of class numbers")
        numbers = numbers.astype(np.int32) * (VOID if numbers.dtype == bool else 1)
    if alpha is not None:
        alpha = np.where(alpha > alpha.max() / 2, VOID, 0).astype(np.uint8)  # strokes may be half transparent
        numbers = None if numbers is None else numbers * (alpha > 0)
        colours = None if colours is None else colours * (alpha > 0)[..., None]
    return Pixels(numbers, colours, alpha, jpeg)


def is_dark_channel(colours: np.ndarray) -> bool:
    """Whether colours (H, W, 3) are numbers: grey, or all in one channel and too dark for a colour."""
    is_one = int(colours.any(axis=(0, 1)).sum()) == 1 and int(colours.max()) <= NEAR
    return is_one or bool((colours == colours[:, :, :1]).all())


def pack_colours(colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) float32 codes, exact, and of a type that OpenCV's morphology takes."""
    return (colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])).astype(np.float32)


def unpack_colour(code: float) -> Colour:
    """Code of `pack_colours` -> colour."""
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def count_values(values: np.ndarray) -> dict[int, int]:
    """Count how many pixels have each value: {value: pixels}."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.astype(int).tolist(), counts.tolist(), strict=True))


def masks_from_colours(picture: np.ndarray, colours: Sequence[Colour]) -> tuple[np.ndarray, int]:
    """Read a colour mask; a colour off the palette counts as the nearest one on it.

    Args:
        picture: (H, W, 3) uint8 red-green-blue.
        colours: of the classes, in the order of the channels; background is black.
    Returns:
        (H, W, C) uint8 in {0, 1}, and how many pixels were off the palette.
    Raises:
        ImageError: two classes of one colour, or one as black as the background.
    """
    palette = np.array([BLACK, *colours], np.int32)
    if len(np.unique(palette, axis=0)) < len(palette):
        raise ImageError(f"colours {list(colours)} are not all different and not black")
    packed = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    found, place = np.unique(packed, return_inverse=True)
    shades = np.stack([found >> 16, (found >> 8) & 255, found & 255], axis=1)
    distance = ((shades[:, None] - palette) ** 2).sum(axis=2)
    nearest = distance.argmin(axis=1)[place].reshape(picture.shape[:2])
    n_off = int((distance.min(axis=1) > 0)[place].sum())
    return (nearest[..., None] == np.arange(1, len(palette))).astype(np.uint8), n_off
