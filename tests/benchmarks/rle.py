"""Decoding and encoding run-length strings, beside what notebooks paste and beside pycocotools."""

from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco

from benchmarks.measuring import Row, compare, least_seconds, peak_bytes, tell_time
from benchmarks.strings import SHAPE, read_strings
from defectmill.rle import mask_to_rle, parse_coco_runs, rle_to_mask

USUAL, COCO = "the usual notebook function", "pycocotools, text parsed"


def measure() -> Iterator[Row]:
    """Measure what strings and masks take; the masks lie row by row, as networks give them."""
    told, strings = read_strings()
    ours, usual, theirs, filled = least_seconds([decode, decode_as_usual, decode_by_coco, fill], strings)
    n = len(strings)
    yield compare(f"rle_to_mask, {told}", USUAL, (ours, usual), 3, n)
    yield compare(f"rle_to_mask, {told}", COCO, (ours, theirs), 3, n)
    note = f"{tell_time(ours / n)} against {tell_time(filled / n)}"
    yield Row(f"rle_to_mask, {told}", "filling the memory", ours / filled, 4, "times as long", note)
    masks = (np.ascontiguousarray(decode(rle)) for rle in strings)
    each = [least_seconds([mask_to_rle, encode_as_usual, encode_by_coco], [mask], 3) for mask in masks]
    ours, usual, theirs = np.sum(each, axis=0).tolist()
    yield compare(f"mask_to_rle, {told}", USUAL, (ours, usual), 5, n)
    yield compare(f"mask_to_rle, {told}", COCO, (ours, theirs), 5, n)
    largest = max(strings, key=len)
    peak = peak_bytes(mask_to_rle, np.ascontiguousarray(decode(largest))) / (SHAPE[0] * SHAPE[1])
    yield Row("mask_to_rle, peak memory", "a pixel of the mask", peak, 3, "bytes a pixel", "the most runs")
    for name, mask in make_extremes().items():
        rle = mask_to_rle(mask)
        yield compare(f"rle_to_mask, {name}", USUAL, least_seconds([decode, decode_as_usual], [rle], 25), 3)
        seconds = least_seconds([mask_to_rle, encode_as_usual], [mask], 25)
        yield compare(f"mask_to_rle, {name}", USUAL, seconds, 5)


def make_extremes() -> dict[str, np.ndarray]:
    """One pixel, a checkerboard, every pixel: (256, 1600) uint8 each."""
    one = np.zeros(SHAPE, np.uint8)
    one[100, 800] = 1
    return {
        "one pixel": one,
        "checkerboard": (np.indices(SHAPE).sum(axis=0) % 2).astype(np.uint8),
        "every pixel": np.ones(SHAPE, np.uint8),
    }


def decode(rle: str) -> np.ndarray:
    """Ours."""
    return rle_to_mask(rle, SHAPE)


def decode_as_usual(rle: str) -> np.ndarray:
    """As public notebooks do: a slice a run, nothing checked."""
    words = rle.split()
    starts, lengths = (np.asarray(some, dtype=int) for some in (words[::2], words[1::2]))
    starts -= 1
    image = np.zeros(SHAPE[0] * SHAPE[1], dtype=np.uint8)
    for start, end in zip(starts, starts + lengths, strict=True):
        image[start:end] = 1
    return image.reshape(SHAPE[::-1]).T


def encode_as_usual(mask: np.ndarray) -> str:
    """As public notebooks do: a turned copy with a zero at both ends, as 64-bit numbers; nothing checked."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def decode_by_coco(rle: str) -> np.ndarray:
    """By pycocotools, which takes lengths of background and runs in turn."""
    numbers, counts, at = list(map(int, rle.split())), list[int](), 1
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        counts += (start - at, length)
        at = start + length
    counts.append(SHAPE[0] * SHAPE[1] + 1 - at)
    return coco.decode(coco.frPyObjects({"size": SHAPE, "counts": counts}, *SHAPE))


def encode_by_coco(mask: np.ndarray) -> str:
    """By pycocotools, whose compressed lengths are read and written as Kaggle's."""
    counts = parse_coco_runs(coco.encode(np.asfortranarray(mask))["counts"].decode(), mask.shape)
    ends = np.cumsum(counts)
    runs = np.stack([ends[:-1:2] + 1, counts[1::2]], 1)
    return " ".join(map(str, runs.ravel().tolist()))


def fill(_: str) -> np.ndarray:
    """What no decoder can do without: memory, and a write to each pixel."""
    pixels = np.zeros(SHAPE[0] * SHAPE[1], np.uint8)
    pixels.fill(1)
    return pixels
