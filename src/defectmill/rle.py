"""Run-length strings <-> masks.

Pixels count from 1, down each column, then right. Only this module knows that.
"""

import re
from collections.abc import Iterable

import numpy as np

from defectmill.files import DefectmillError

_SUMMABLE = 2**62 - 1  # of numbers up to this, two can be added in 64 bits
_COCO_FORM = re.compile("([P-o]{0,6}[0-O])+")  # of at most 35 bits, which hold the pixels of every image
NOTHING = {"", "-1", "-", "nan", "none", "null", "na", "n/a", "<na>"}  # in small letters


class RleError(DefectmillError):
    """A run-length string that breaks the rules of the competition."""


def mask_to_rle(mask: np.ndarray) -> str:
    """Write a mask as "start length start length ...", sorted and disjoint; "" where it is empty.

    Args:
        mask: (H, W), any dtype; only 0/False and 1/True occur.
    Raises:
        RleError: the array is not two-dimensional or holds other values than 0 and 1.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise RleError(f"a mask is (H, W), not {mask.shape}")
    if mask.dtype.kind not in "bu" or mask.max(initial=0) > 1:
        other = (mask != 0) & (mask != 1)
        if other.any():
            raise RleError(f"a mask holds 0 and 1 only, not {mask.T[other.T][0]}")
    edges = _find_edges(mask if mask.dtype.kind in "bu" else mask != 0)
    edges[1::2] -= edges[::2]
    edges[::2] += 1
    return ("%d " * edges.size % tuple(edges.tolist()))[:-1]  # half the time of " ".join(map(str, ...))


def _find_edges(mask: np.ndarray) -> np.ndarray:
    """Find where the runs of a (H, W) mask of integers begin and end, from 0, in order: (2R,) int64.

    The pixels are packed into bits, each of which is compared with the one before it: two thirds of the time
    that the pixels themselves take, and a twentieth of that of a mask turned as int64.
    """
    goes_down = mask.flags.f_contiguous
    bits: np.ndarray = np.packbits(mask.T.ravel()) if goes_down else np.packbits(mask, axis=1)
    changes = bits.copy()
    if goes_down:
        changes ^= bits >> 1
        changes[1:] ^= bits[:-1] << 7
        edges = _find_ones(changes)
    else:
        changes[1:] ^= bits[:-1]
        changes[0] = np.packbits(np.append(mask[0, :1], mask[0, 1:] ^ mask[-1, :-1]))
        rows, columns = np.divmod(_find_ones(changes.ravel()), 8 * changes.shape[1])
        edges = np.sort(columns * len(mask) + rows)
    return np.append(edges, mask.size) if edges.size % 2 else edges  # a run to the last pixel


def _find_ones(bits: np.ndarray) -> np.ndarray:
    """Find the places of the ones in packed bits, (N,) uint8, in order."""
    some = np.flatnonzero(bits.astype(bool))
    ones = np.flatnonzero(np.unpackbits(bits[some]).view(bool))
    return 8 * some[ones >> 3] + (ones & 7)


def parse_runs(rle: str, shape: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a run-length string into its runs.

    Args:
        shape: (H, W) of the image, if known.
    Returns:
        starts and lengths, (R,) int64 each; starts count from 1.
    Raises:
        RleError: not pairs of whole numbers, a zero, unsorted or overlapping runs, or one past the image.
    """
    # Most rows of a label table are empty.
    numbers = np.zeros(0, np.int64) if isinstance(rle, str) and not rle else _read_runs(rle, shape)[0]
    return numbers[::2], numbers[1::2]


def _read_runs(rle: str, shape: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Read start, length, start, ... (2R,) and lengths of background, run, background, ... (2R + 1,)."""
    if not isinstance(rle, str):
        raise RleError(f"runs are text, not {rle!r}")
    # Only digits and spaces, and one space fewer than numbers: a fifth of the time of a regular expression.
    is_plain = rle.isascii() and not rle.encode().translate(None, b"0123456789 ")
    # A number of over 64 bits becomes the largest there is; a quarter of the time of np.array(rle.split()).
    numbers = np.fromstring(rle if is_plain else "", np.uint64, sep=" ")
    if not is_plain or numbers.size % 2 or rle.count(" ") != max(numbers.size - 1, 0):
        raise RleError(f"not 'start length' pairs separated by one space: {_shorten(rle)}")
    limit = shape[0] * shape[1] if shape else _SUMMABLE
    edges = np.empty(numbers.size + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = 1, numbers, limit + 1
    edges[2:-1:2] += edges[1:-2:2]
    lengths = edges[1:] - edges[:-1]
    if lengths.min() < 0 or (numbers.size and (numbers - 1).max() >= limit):
        _refuse_offence(rle, numbers[::2].view(np.int64), numbers[1::2].view(np.int64), shape)
    return numbers.view(np.int64), lengths


def _refuse_offence(rle: str, starts: np.ndarray, lengths: np.ndarray, shape: tuple[int, int] | None) -> None:
    """Raise RleError with the first offence of runs, if there is one."""
    if min(starts.min(), lengths.min()) < 0:
        raise RleError(f"a number too large: {_shorten(rle)}")
    zeros = np.flatnonzero((starts < 1) | (lengths < 1))
    if zeros.size:
        where = int(zeros[0])
        offence = f"run {where + 1} ({starts[where]} {lengths[where]}) is not positive"
        raise RleError(f"{offence}{'; pixels count from 1' * bool(starts[where] < 1)}")
    # Differences instead of sums: start + length may exceed 64 bits in a hostile file.
    if starts[-1] > np.iinfo(np.int64).max - lengths[-1]:
        raise RleError(f"a number too large: run {starts.size} ({starts[-1]} {lengths[-1]})")
    wrong = np.flatnonzero(np.diff(starts) < lengths[:-1])
    if wrong.size:
        i = int(wrong[0])
        what = "is not sorted after" if starts[i + 1] < starts[i] else "overlaps"
        raise RleError(
            f"run {i + 2} ({starts[i + 1]} {lengths[i + 1]}) {what} run {i + 1} ({starts[i]} {lengths[i]})"
        )
    if shape and starts[-1] - 1 > shape[0] * shape[1] - lengths[-1]:
        last = f"run {starts.size} ({starts[-1]} {lengths[-1]})"
        raise RleError(f"{last} leaves the image of {shape[0]} x {shape[1]} = {shape[0] * shape[1]} pixels")


def _shorten(rle: str) -> str:
    return repr(rle if len(rle) <= 60 else f"{rle[:57]}...")


def clean_rle(text: str) -> str:
    """Write the blanks around and between numbers as one, and a word for no runs (`NOTHING`) as ""."""
    rle = " ".join(text.split())
    return "" if rle.casefold() in NOTHING else rle


def unite_rles(rles: Iterable[str]) -> str:
    """Write several masks of one image, which may overlap, as one: the union of their pixels."""
    starts, lengths = (np.concatenate(part) for part in zip(*map(parse_runs, rles), strict=True))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate((starts + lengths)[order])
    opens = np.flatnonzero(np.append(True, starts[1:] > ends[:-1])[: starts.size])
    closes = np.append(opens[1:], starts.size)[: opens.size] - 1
    runs = np.stack([starts[opens], ends[closes] - starts[opens]], axis=1)
    return " ".join(map(str, runs.ravel().tolist()))


def check_rle(rle: str, shape: tuple[int, int]) -> None:
    """Raise RleError, naming the offence, unless `rle` is a legal mask of a (H, W) image."""
    parse_runs(rle, shape)


def rle_to_mask(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Draw the runs as (H, W) uint8 in {0, 1}, column by column in memory (Fortran order).

    Raises:
        RleError: as `check_rle` does.
    """
    lengths = _read_runs(rle, shape)[1]
    values = np.zeros(lengths.size, np.uint8)
    values[1::2] = 1
    return values.repeat(lengths).reshape(shape, order="F")


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
    points = np.union1d(*bounds)
    inside = [np.searchsorted(edges, points[:-1], side="right") % 2 == 1 for edges in bounds]
    return int(np.diff(points)[inside[0] & inside[1]].sum())


def parse_coco_runs(counts: str | list[int], shape: tuple[int, int]) -> list[int]:
    """Read the runs of a COCO file: lengths down each column, then right, background first.

    Args:
        counts: the lengths, or their compressed text (rleToString of COCO's maskApi.c): characters of 5 bits,
            lowest first, a sixth bit where more follow; from the fourth number on, the difference to the
            number two before.
        shape: (H, W) of the image.
    Raises:
        RleError: no such text, a negative length, or lengths that do not sum up to H x W.
    """
    if isinstance(counts, str):
        if not _COCO_FORM.fullmatch(counts):
            raise RleError(f"not COCO's compressed runs: {counts!r:.60}")
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
        ends = np.flatnonzero(codes < 32)
        starts = np.concatenate([[0], ends + 1])
        lengths = np.diff(starts)
        places = np.arange(codes.size) - np.repeat(starts[:-1], lengths)
        numbers = np.add.reduceat((codes & 31) << 5 * places, starts[:-1])
        numbers -= np.where(codes[ends] & 16, 1 << 5 * lengths, 0)
        numbers[1::2], numbers[2::2] = numbers[1::2].cumsum(), numbers[2::2].cumsum()
        counts = numbers.tolist()
    runs = [int(count) for count in counts]
    if min(runs, default=0) < 0:
        raise RleError(f"a run of {min(runs)} pixels")
    if sum(runs) != shape[0] * shape[1]:
        raise RleError(f"runs over {sum(runs)} pixels, for an image of {shape[0]} x {shape[1]}")
    return runs


def draw_pixel(rle: str, height: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw one pixel of a mask, each with the same probability.

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
