"""Tiles: cut a large picture, and blend what was predicted of its parts without a seam."""

from collections.abc import Iterable, Sequence

import numpy as np


def tile_origins(
    sides: tuple[int, int], shape: tuple[int, int], overlap: int
) -> list[tuple[int, int]]:
    """Say where tiles of `shape` begin so that they cover a picture, evenly spread.

    Args:
        sides: height and width of the picture; a side shorter than the tile has one tile at 0.
        overlap: pixels that neighbours share at least.
    Returns:
        (top, left) of each tile, row by row.
    Raises:
        ValueError: `overlap` is negative or not smaller than the tile.
    """
    if not 0 <= overlap < min(shape):
        raise ValueError(f"overlap {overlap} does not fit tiles of {shape}")
    tops, lefts = (
        np.linspace(0, max(0, side - tile), max(1, -(-(side - overlap) // (tile - overlap))))
        for side, tile in zip(sides, shape, strict=True)
    )
    return [(round(top), round(left)) for top in tops for left in lefts]


def split(
    picture: np.ndarray, shape: tuple[int, int], overlap: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Cut a picture into tiles; one smaller than a tile is extended by reflection.

    Args:
        picture: (H, W, C) of any dtype.
    Returns:
        (N, h, w, C) and the (top, left) of each tile.
    """
    origins = tile_origins(picture.shape[:2], shape, overlap)
    return np.stack([cut(picture, origin, shape) for origin in origins]), origins


def cut(picture: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Cut one tile; where it leaves the picture it is extended by reflection: (h, w, C)."""
    (top, left), (height, width) = origin, shape
    tile = picture[top : top + height, left : left + width]
    lacking = [(0, want - have) for want, have in zip(shape, tile.shape, strict=False)]
    return np.pad(tile, [*lacking, (0, 0)], "symmetric") if tile.shape[:2] != shape else tile


def blend(
    tiles: Iterable[np.ndarray], origins: Sequence[tuple[int, int]], sides: tuple[int, int]
) -> np.ndarray:
    """Put tiles back together, each weighing most at its middle (a Hann window).

    Args:
        tiles: (h, w, C) float each, in the order of `origins`; read once, one at a time.
        sides: height and width of the picture.
    Returns:
        (H, W, C) float32.
    """
    total = weights = None
    for tile, (top, left) in zip(tiles, origins, strict=True):
        if total is None:
            total = np.zeros((*sides, tile.shape[2]), np.float32)
            weights = np.zeros((*sides, 1), np.float32)
            window = np.outer(*(_hann(side) for side in tile.shape[:2]))[:, :, None]
        height, width = np.minimum(tile.shape[:2], np.subtract(sides, (top, left)))
        place = np.s_[top : top + height, left : left + width]
        total[place] += (tile * window)[:height, :width]
        weights[place] += window[:height, :width]
    return total / weights


def _hann(side: int) -> np.ndarray:
    """Never 0, so that the border of a picture, which one tile alone shows, has a weight."""
    return (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 + 1e-3).astype(np.float32)
