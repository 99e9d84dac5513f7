"""Parts of images: at which size an image is shown to a network, which part a crop or a tile holds,
how predictions of tiles become one map again, and how many parts a batch takes."""

from collections.abc import Iterable, Sequence

import numpy as np

from defectmill.config import CropData, DataSettings
from defectmill.files import DefectmillError

Shape = tuple[int, int]


def shown_shape(shape: Shape, data: DataSettings) -> Shape:
    """The (height, width) at which a whole image of `shape` is shown to the network."""
    if not isinstance(data, CropData):
        return data.shape
    return max(1, round(shape[0] * data.scale)), max(1, round(shape[1] * data.scale))


def place_crop(
    sides: np.ndarray, centre: np.ndarray, shown: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Say which rows and columns a crop holds; reflected where it leaves the image.

    What it shows stays inside the image where the image is large enough.

    Args:
        sides: height and width of the image.
        centre: of the crop, (2,) float.
        shown: height and width of what it shows, (2,) float.
        margin: how many times larger the crop is than what it shows.
    """
    crop = np.ceil(shown * margin).astype(int)
    half = np.minimum(shown, sides) / 2
    first = np.round(np.clip(centre, half, sides - half) - crop / 2).astype(int)
    rows, columns = (
        _reflect(np.arange(f, f + n), side) for f, n, side in zip(first, crop, sides, strict=True)
    )
    return rows, columns


def tile_origins(sides: Shape, shape: Shape, overlap: int) -> list[Shape]:
    """Say where tiles of `shape` begin so that they cover an image, evenly spread.

    Args:
        sides: height and width of the image; a side shorter than the tile has one tile at 0.
        overlap: pixels that neighbours share at least.
    Returns:
        (top, left) of each tile, row by row.
    Raises:
        DefectmillError: `overlap` is negative or not smaller than the tile.
    """
    if not 0 <= overlap < min(shape):
        raise DefectmillError(f"overlap {overlap} does not fit tiles of {shape}")
    tops, lefts = (
        np.linspace(0, max(0, side - tile), max(1, -(-(side - overlap) // (tile - overlap))))
        for side, tile in zip(sides, shape, strict=True)
    )
    return [(round(top), round(left)) for top in tops for left in lefts]


def split_tiles(image: np.ndarray, shape: Shape, overlap: int) -> tuple[np.ndarray, list[Shape]]:
    """Cut an image (H, W, C) into tiles; one smaller than a tile is extended by reflection.

    Returns:
        (N, h, w, C) and the (top, left) of each tile.
    """
    origins = tile_origins((image.shape[0], image.shape[1]), shape, overlap)
    return np.stack([cut_tile(image, origin, shape) for origin in origins]), origins


def cut_tile(image: np.ndarray, origin: Shape, shape: Shape) -> np.ndarray:
    """Cut one tile; where it leaves the image it is extended by reflection: (h, w, C)."""
    (top, left), (height, width) = origin, shape
    tile = image[top : top + height, left : left + width]
    if tile.shape[:2] == shape:
        return tile
    lacking = [(0, want - have) for want, have in zip(shape, tile.shape, strict=False)]
    return np.pad(tile, [*lacking, (0, 0)], "symmetric")


def blend_tiles(tiles: Iterable[np.ndarray], origins: Sequence[Shape], sides: Shape) -> np.ndarray:
    """Put tiles back together, each weighing most at its middle (a Hann window).

    Args:
        tiles: (h, w, C) float each, in the order of `origins`; read once, one at a time.
        sides: height and width of the image.
    Returns:
        (H, W, C) float32.
    """
    total, weights = np.zeros((*sides, 1), np.float32), np.zeros((*sides, 1), np.float32)
    for tile, (top, left) in zip(tiles, origins, strict=True):
        if total.shape[2] != tile.shape[2]:
            total = np.zeros((*sides, tile.shape[2]), np.float32)
        window = np.outer(*(_hann(side) for side in tile.shape[:2]))[:, :, None]
        height, width = np.minimum(tile.shape[:2], np.subtract(sides, (top, left)))
        place = np.s_[top : top + height, left : left + width]
        total[place] += (tile * window)[:height, :width]
        weights[place] += window[:height, :width]
    return total / weights


def split_batches(n: int, size: int) -> list[range]:
    """Cut 0..n-1 into batches of `size`; the last is smaller, but never one thing alone.

    A last one alone joins the batch before: it would weigh as much in a step as a whole batch, and
    oneDNN (TensorFlow 2.21) has no fast kernel for some convolutions of one image: one layer of
    a FlexUNet takes 130 s instead of 0.2 s.
    """
    ends = list(range(size, n, size))
    if ends and n - ends[-1] == 1 < size:
        ends.pop()
    return [range(first, end) for first, end in zip([0, *ends], [*ends, n], strict=True)]


def _reflect(positions: np.ndarray, side: int) -> np.ndarray:
    """Fold positions outside 0..side-1 back inside, without repeating the border pixel."""
    period = max(1, 2 * (side - 1))
    return np.minimum(positions % period, -positions % period)


def _hann(side: int) -> np.ndarray:
    """Never 0, so that the border of an image, which one tile alone shows, has a weight."""
    return (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 + 1e-3).astype(np.float32)
