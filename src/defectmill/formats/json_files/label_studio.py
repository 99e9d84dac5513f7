"""Label Studio: a JSON file with a list of tasks, each an image and what people marked on it.

Coordinates are percent of the image's width and height, from the upper left corner of its first pixel. What
a brush painted is a picture in red, green, blue and opacity, packed in runs: see `unpack_brush`.
https://labelstud.io/guide/task_format and https://labelstud.io/tags/brushlabels
"""

import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from defectmill.formats.json_files.records import read_corners, read_json, take, take_number, take_shape
from defectmill.formats.reading import (
    NO_AREA,
    Instance,
    Job,
    list_files,
    located,
    note_unread,
    open_jobs,
    outline_box,
    pack_patch,
    place_job,
    read_head,
)
from defectmill.formats.shapes import FormatError, Pictures, Runs, Source, find_pictures, is_background
from defectmill.images import SUFFIXES

FURTHER = "annotation by a further person, left out: the ground truth or else the first counts"
UNNAMED = "region without a label, left out"
ANSWERS = "answer that marks nothing on the image, left out"
_UPLOAD = re.compile("(^|/)[0-9a-f]{8}-(?=[^/]+$)")  # stands before the name of a file that was uploaded


def find_label_studio(raw: Path) -> Source | None:
    """Find Label Studio's exports as JSON in a folder and below (or take that file), and their images.

    Raises:
        FormatError: a file is broken or exported as JSON-MIN, or an image is missing.
    """
    files = [path for path in list_files(raw, ".json") if _is_export(path)]
    if not files:
        return None
    pictures = find_pictures(raw.parent if raw.is_file() else raw)
    jobs: dict[Path, Job] = {}
    labels: set[str] = set()
    for path in files:
        for number, task in enumerate(read_json(path)):
            where = f"{path}: [{number}]"
            with located(where):
                works = take(task, "annotations", list)
                works = [work for work in works if not take(work, "was_cancelled", bool, False)]
                works.sort(key=lambda work: not take(work, "ground_truth", bool, False))
                image, name = _find_image(task, path, pictures)
                if not works:
                    continue
                regions = take(works[0], "result", list)
                labels |= {label for region in regions for label in _read_labels(region)}
            job = Job(f"{where}: regions", partial(_load, regions, len(works) - 1))
            place_job(jobs, job, image, name, pictures)
    classes = sorted(label for label in labels if not is_background(label))
    if not classes:
        raise FormatError(f"{files[0]}: no task has a region with a label, so there is no class")
    read, notes = open_jobs(jobs, pictures, _draw), note_unread(jobs, pictures)
    return Source("label studio", tuple(classes), read, notes=notes)


def _is_export(path: Path) -> bool:
    head = read_head(path)
    if not head.startswith("["):
        return False
    if '"annotations"' in head and '"result"' in head:
        return True
    if '"original_width"' in head:
        raise FormatError(f"{path}: Label Studio's JSON-MIN; export it as JSON")
    return False


def _find_image(task: Any, source: Path, pictures: Pictures) -> tuple[Path | None, str]:
    """Find the image of a task by the path or address in its data, with and without an upload's prefix."""
    told = [text for text in take(task, "data", dict).values() if isinstance(text, str)]
    told.append(take(task, "file_upload", str, ""))
    # /data/local-files/?d=folder/part.png, https://host/part.png?key=1, s3://store/part.png
    pieces = [unquote(piece) for text in told for piece in (text, *re.split("[?&=#]", text))]
    names = [piece for piece in pieces if PurePosixPath(piece).suffix.lower() in SUFFIXES]
    names += [_UPLOAD.sub(r"\1", name) for name in names]
    found = [image for name in names if (image := pictures.find(name, source))]
    return (found[0] if found else None), (names[0] if names else "")


def _read_labels(region: Any) -> list[str]:
    labels = take(take(region, "value", dict, {}), take(region, "type", str, ""), list, [])
    return [label for label in labels if isinstance(label, str)]


def _load(regions: list, n_further: int) -> tuple[tuple[int, int] | None, list, dict[str, int]]:
    """Give the regions of an image; what is said of a region that has a label is left out."""
    shapes = {take_shape(region, "original_height", "original_width") for region in regions} - {None}
    if len(shapes) > 1:
        raise FormatError(f"they are for images of different sizes: {sorted(filter(None, shapes))}")
    ids = [take(region, "id", (str, int), "") for region in regions]
    labelled = {one for one, region in zip(ids, regions, strict=True) if _read_labels(region)}
    pairs = zip(ids, regions, strict=True)
    records = [region for one, region in pairs if _read_labels(region) or one not in labelled]
    return next(iter(shapes), None), records, {NO_AREA: 0, UNNAMED: 0, ANSWERS: 0, FURTHER: n_further}


def _draw(region: Any, size: tuple[int, int], issues: dict[str, int]) -> list[Instance]:
    labels, value = _read_labels(region), take(region, "value", dict, {})
    kind, marks = take(region, "type", str, ""), value.keys() & {"x", "points", "rle", "vertices"}
    if not labels or not marks:
        issues[UNNAMED if marks else ANSWERS] += 1
        return []
    if kind.startswith(("keypoint", "vector")):
        issues[NO_AREA] += 1
        return []
    if turned := [
        key for key, record in (("image_rotation", region), ("rotation", value)) if record.get(key)
    ]:
        raise FormatError(f"a region with {turned[0]} is not read; draw a polygon on the image as it is")
    scale = np.array(size[::-1]) / 100
    piece: np.ndarray | Runs
    if "rle" in value:
        words = unpack_brush(take(value, "rle", list), 4 * size[0] * size[1])
        piece = pack_patch(words.reshape(*size, 4)[:, :, 3], (0, 0), size, issues)
    elif "points" in value:
        piece = read_corners(take(value, "points", list)) * scale
    elif {"width", "height"} <= value.keys():
        x, y, width, height = (take_number(value, key) for key in ("x", "y", "width", "height"))
        piece = outline_box((x, y), (x + width, y + height)) * scale
    else:
        raise FormatError(f"a region of the type {kind!r} is not read; draw a polygon or use the brush")
    return [(label, [piece]) for label in labels]


class _Bits:
    """The bits of bytes, highest first, to be read one after the other."""

    def __init__(self, data: list[int]) -> None:
        try:
            bits = np.unpackbits(np.array(data, np.uint8))
        except (ValueError, TypeError, OverflowError) as error:
            raise FormatError(f"rle is no list of bytes: {data!r:.60}") from error
        self.text, self.place = (bits + ord("0")).tobytes().decode(), 0

    def read(self, n: int) -> str:
        self.place += n
        if self.place > len(self.text):
            raise FormatError(f"rle ends in the middle of a block, after {len(self.text) // 8} bytes")
        return self.text[self.place - n : self.place]

    def read_number(self, n: int) -> int:
        return int(self.read(n), 2)


def unpack_brush(rle: list[int], n: int) -> np.ndarray:
    """Unpack the runs of a brush: (n,) bool, whether each word is not 0.

    First come 32 bits with the number of words, 5 with the bits of a word less 1, and 4 times 4 with the bits
    that lengths of four sizes have, less 1. Then blocks: 1 bit, whether one word is repeated; 2, which size
    the length has; the length less 1; and that word, or as many words as the length says. From the README of
    @thi.ng/rle-pack, https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack

    Raises:
        FormatError: these are no bytes, not `n` words, or they end early.
    """
    bits = _Bits(rle)
    if (told := bits.read_number(32)) != n:
        raise FormatError(f"rle holds {told} words; the image has {n}, four for each pixel")
    n_bits = bits.read_number(5) + 1
    sizes = [bits.read_number(4) + 1 for _ in range(4)]
    words, start = np.zeros(n, bool), 0
    while start < n:
        is_run = bits.read_number(1)
        end = start + bits.read_number(sizes[bits.read_number(2)]) + 1
        if end > n:
            raise FormatError(f"rle has a block of the words {start} to {end} of {n}")
        text = bits.read(n_bits if is_run else n_bits * (end - start))
        words[start:end] = [set(text[i : i + n_bits]) != {"0"} for i in range(0, len(text), n_bits)]
        start = end
    return words
