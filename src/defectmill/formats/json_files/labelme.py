"""labelme: a JSON file for each image, shapes with corners in pixels, counted along the edges of pixels.

labelme's own conversion rounds corners down to whole pixels and fills what lies between them, corners
included. `inset_outline` makes outlines that mean the same to both.
"""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectmill.dataset_info import DatasetInfo
from defectmill.files import write_atomically
from defectmill.formats.json_files.records import decode_patch, read_corners, read_json, take, take_shape
from defectmill.formats.reading import (
    NO_AREA,
    Instance,
    Job,
    list_files,
    located,
    note_unread,
    open_jobs,
    outline_box,
    outline_ellipse,
    pack_patch,
    place_job,
    read_head,
)
from defectmill.formats.shapes import (
    FormatError,
    Source,
    Written,
    draw_instances,
    find_pictures,
    is_background,
    make_loss_table,
    mask_to_polygons,
    pack_masks,
)

IGNORE = "__ignore__"  # a label for what is neither a defect nor background
IGNORED = f"shape labelled {IGNORE}, left out"
LINES = ("line", "linestrip", "point", "points")
POLYGONS = ("polygon", "oriented_rectangle", "rotation")  # the last in X-AnyLabeling's files of this form
VERSION = "5.5.0"  # of labelme, whose form the files have
INSET = 0.25  # pixels, under a half


def find_labelme(raw: Path) -> Source | None:
    """Find labelme's JSON files in a folder and below, beside their images or not (or take that file).

    Raises:
        FormatError: one of them is broken, or its image is missing or annotated twice.
    """
    files = list_files(raw, ".json")
    if not any(_is_labelme(path) for path in files):
        return None
    pictures = find_pictures(raw.parent if raw.is_file() else raw)
    jobs: dict[Path, Job] = {}
    labels: set[str] = set()
    foreign = []
    for path in files:
        document = read_json(path)
        if not isinstance(document, dict) or "shapes" not in document:
            foreign.append(path.name)
            continue
        with located(str(path)):
            name, shapes = take(document, "imagePath", str), take(document, "shapes", list)
            image = pictures.find(name, path)
            if image is None and take(document, "imageData", str, ""):
                raise FormatError(
                    f"image {name!r} is not in {pictures.root}, but in imageData: save it there"
                )
        for number, shape in enumerate(shapes):
            with located(f"{path}: shapes[{number}]"):
                labels.add(take(shape, "label", str))
        place_job(jobs, Job(f"{path}: shapes", partial(_load, path)), image, name, pictures)
    classes = sorted(label for label in labels if label != IGNORE and not is_background(label))
    if not classes:
        raise FormatError(
            f"{files[0].parent}: no shape in {len(jobs)} files of labelme, so there is no class"
        )
    notes = note_unread(jobs, pictures)
    if foreign:
        notes += (f"JSON files that are not labelme's are not read: {', '.join(foreign)}",)
    return Source("labelme", tuple(classes), open_jobs(jobs, pictures, _draw), notes=notes)


def _is_labelme(path: Path) -> bool:
    head = read_head(path)
    if not head.startswith("{") or not any(f'"{key}"' in head for key in ("shapes", "imageData")):
        return False
    data = path.read_bytes()
    return all(key in data for key in (b'"shapes"', b'"imagePath"'))


def _load(path: Path) -> tuple[tuple[int, int] | None, list, dict[str, int]]:
    document = read_json(path)
    shape = take_shape(document, "imageHeight", "imageWidth")
    return shape, take(document, "shapes", list), {NO_AREA: 0, IGNORED: 0}


def _draw(record: Any, size: tuple[int, int], issues: dict[str, int]) -> list[Instance]:
    label, corners = take(record, "label", str), read_corners(take(record, "points", list))
    kind = take(record, "shape_type", str, "polygon")  # before version 4 there were polygons only
    if label == IGNORE or kind in LINES:
        issues[IGNORED if label == IGNORE else NO_AREA] += 1
        return []
    if kind in POLYGONS or (kind == "rectangle" and len(corners) == 4):
        return [(label, [corners])]
    if kind not in ("rectangle", "circle", "mask"):
        raise FormatError(f"shape_type {kind!r} cannot be drawn as a mask; delete it or draw a polygon")
    if len(corners) != 2:
        raise FormatError(f"a {kind} has 2 points, not {len(corners)}")
    if kind == "mask":
        patch, (first, last) = decode_patch(take(record, "mask", str)), corners.round().astype(int)
        if np.abs((last - first + 1)[::-1] - patch.shape).max() > 1:  # corners may be fractions
            raise FormatError(f"its mask is {patch.shape}, its corners {corners.tolist()}")
        return [(label, [pack_patch(patch, first.tolist(), size, issues)])]
    if kind == "rectangle":
        return [(label, [outline_box(*corners)])]
    return [(label, [outline_ellipse(corners[0], [np.hypot(*(corners[1] - corners[0]))] * 2)])]


def write_labelme(masks: Iterable[tuple[str, np.ndarray]], info: DatasetInfo, folder: Path) -> pd.DataFrame:
    """Write (image id, (H, W, C) uint8 masks) as <stem>.json each; the images belong beside these files.

    A clean image gets a file without shapes.

    Returns:
        ImageId, ClassId, pixels of the mask, lost and gained (read back from the files), for each mask.
    Raises:
        FormatError: two images share a stem, or masks have other classes than `info`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return make_loss_table(_write_files(masks, info, folder), info)


def _write_files(
    masks: Iterable[tuple[str, np.ndarray]], info: DatasetInfo, folder: Path
) -> Iterator[Written]:
    owners: dict[str, str] = {}
    for image_id, drawn in masks:
        path = folder / f"{Path(image_id).stem}.json"
        owner = owners.setdefault(path.name.casefold(), image_id)
        if owner != image_id:
            raise FormatError(
                f"{path}: labelme looks there for {owner} and {image_id} alike; rename one of them"
            )
        packed, size = pack_masks(image_id, drawn, info), drawn.shape[:2]
        shapes = [
            {"label": kind.name, "points": inset_outline(outline).tolist(), "group_id": None}
            | {"description": "", "shape_type": "polygon", "flags": {}, "mask": None}
            for kind, mask in zip(info.classes, np.moveaxis(drawn, 2, 0), strict=True)
            for outline in mask_to_polygons(mask)
        ]
        document: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": image_id}
        document |= {"imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
        with write_atomically(path) as part:
            part.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8", newline="")
        _, records, issues = _load(path)
        instances = [instance for record in records for instance in _draw(record, size, issues)]
        yield image_id, packed, draw_instances(instances, size)[0]


def inset_outline(outline: np.ndarray) -> np.ndarray:
    """Move an outline along pixel edges a little inwards, holes outwards, into the pixels that it runs along.

    The middles of the same pixels lie inside. Rounded down, each corner is a pixel of the mask, so that tools
    which fill between such pixels draw the same mask too. Where the outline turns away from the mask, the
    corner is cut: two pixels may touch there that only have it in common.

    Args:
        outline: (n, 2) float, whole numbers, level and upright sides; see `mask_to_polygons`.
    Returns:
        (m, 2) float.
    """
    ahead = np.sign(np.roll(outline, -1, axis=0) - outline)  # the way from each corner to the next
    x, y = outline.T
    clockwise = np.sign((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    inwards = clockwise * np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    moved = []
    for corner, came, goes, was, now in zip(
        outline, np.roll(ahead, 1, axis=0), ahead, np.roll(inwards, 1, axis=0), inwards, strict=True
    ):
        if (goes == was).all():
            moved.append(corner + INSET * (was + now))
        else:  # away from the mask, or straight back along a bridge
            is_back = (now == -was).all()
            moved += [
                corner + INSET * (was - came * (not is_back)),
                corner + INSET * (now + goes * (not is_back)),
            ]
    return np.array(moved)
