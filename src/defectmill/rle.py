"""Run-length strings <-> masks.

Pixels count from 1, down each column, then right. Only this module knows that.
"""

import re

import numpy as np

_FORM = re.compile(r"[0-9]+ [0-9]+( [0-9]+ [0-9]+)*")  # \d admits other scripts


class RleError(ValueError):
    """A run-length string that breaks the rules of the competition."""


def mask_to_rle(mask: np.ndarray) -> str:
    """Write a mask as "start length start length ...", sorted and disjoint.

    Args:
        mask: (H, W), any dtype; only 0/False and 1/True occur.
    Returns:
        The runs; "" where the mask is empty.
    Raises:
        RleError: the array is not two-dimensional or holds other values than 0 and 1.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise RleError(f"a mask is (H, W), not {mask.shape}")
    pixels = np.concatenate([[0], mask.ravel(order="F"), [0]])
    odd = (pixels != 0) & (pixels != 1)
    if odd.any():
        raise RleError(f"a mask holds 0 and 1 only, not {pixels[odd][0]}")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges.tolist()))


def parse_runs(rle: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a run-length string into its runs, checked in everything but the picture's size.

    Returns:
        starts and lengths, (R,) int64 each; starts count from 1.
    Raises:
        RleError: not pairs of whole numbers, a zero, unsorted or overlapping runs.
    """
    if not isinstance(rle, str):
        raise RleError(f"runs are text, not {rle!r}")
    if not rle:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if not _FORM.fullmatch(rle):
        raise RleError(f"not 'start length' pairs separated by one blank: {_shorten(rle)!r}")
    try:
        numbers = np.array(rle.split(), np.int64)
    except OverflowError as error:
        raise RleError(f"a number too large: {_shorten(rle)!r}") from error
    starts, lengths = numbers[::2], numbers[1::2]
    if (numbers < 1).any():
        where = int(np.flatnonzero(numbers < 1)[0]) // 2
        raise RleError(f"run {where + 1} ({starts[where]} {lengths[where]}) is not positive")
    # Differences instead of sums: start + length may exceed 64 bits in a hostile file.
    if starts[-1] > np.iinfo(np.int64).max - lengths[-1]:
        raise RleError(f"a number too large: run {starts.size} ({starts[-1]} {lengths[-1]})")
    wrong = np.flatnonzero(np.diff(starts) < lengths[:-1])
    if wrong.size:
        i = int(wrong[0])
        what = "is not sorted after" if starts[i + 1] < starts[i] else "overlaps"
        raise RleError(
            f"run {i + 2} ({starts[i + 1]} {lengths[i + 1]}) {what} "
            f"run {i + 1} ({starts[i]} {lengths[i]})"
        )
    return starts, lengths


def check_rle(rle: str, shape: tuple[int, int]) -> None:
    """Raise RleError, naming the offence, unless `rle` is a legal mask of a (H, W) picture."""
    _runs_inside(rle, shape)


def rle_to_mask(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Draw the runs.

    Returns:
        (H, W) uint8 in {0, 1}.
    Raises:
        RleError: see `check_rle`.
    """
    starts, lengths = _runs_inside(rle, shape)
    pixels = np.zeros(shape[0] * shape[1], np.uint8)
    for start, length in zip((starts - 1).tolist(), lengths.tolist(), strict=True):
        pixels[start : start + length] = 1
    return np.ascontiguousarray(pixels.reshape(shape, order="F"))


def rle_area(rle: str) -> int:
    """Count the pixels of the mask."""
    return int(parse_runs(rle)[1].sum())


def intersect_rles(first: str, second: str) -> int:
    """Count the pixels that two masks share, without drawing them."""
    bounds = []
    for rle in (first, second):
        starts, lengths = parse_runs(rle)
        bounds.append(np.stack([starts, starts + lengths], 1).ravel())
    if not (bounds[0].size and bounds[1].size):
        return 0
    points = np.union1d(*bounds)[:-1]
    inside = [np.searchsorted(edges, points, side="right") % 2 == 1 for edges in bounds]
    widths = np.diff(np.union1d(*bounds))
    return int(widths[inside[0] & inside[1]].sum())


def draw_pixel(rle: str, height: int, rng: np.random.Generator) -> tuple[int, int]:
    """Pick one pixel of a mask, each with the same chance.

    Returns:
        (row, column), counted from 0.
    Raises:
        RleError: the mask is empty.
    """
    starts, lengths = parse_runs(rle)
    if not starts.size:
        raise RleError("an empty mask has no pixel to pick")
    ends = np.cumsum(lengths)
    pick = int(rng.integers(ends[-1]))
    run = int(np.searchsorted(ends, pick, side="right"))
    pixel = int(starts[run]) - 1 + pick - int(ends[run] - lengths[run])
    return pixel % height, pixel // height


def _runs_inside(rle: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    starts, lengths = parse_runs(rle)
    area = shape[0] * shape[1]
    if starts.size and starts[-1] - 1 > area - lengths[-1]:
        raise RleError(
            f"run {starts.size} ({starts[-1]} {lengths[-1]}) leaves the picture of "
            f"{shape[0]} x {shape[1]} = {area} pixels"
        )
    return starts, lengths


def _shorten(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
