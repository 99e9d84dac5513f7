"""Supervisely: meta.json, and <dataset>/ann/<image>.json for each image of <dataset>/img.

Corners that are whole numbers are pixels, and an outline includes those that it runs through, as the SDK of
Supervisely draws it (cv2.fillPoly). Fractions count along the edges of pixels, as `shapes` does.
https://developer.supervisely.com/getting-started/supervisely-annotation-format
"""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from defectmill.formats.json_files.records import decode_patch, read_corners, read_json, take, take_shape
from defectmill.formats.reading import (
    CLEAN,
    NO_AREA,
    Instance,
    Job,
    located,
    note_unread,
    open_jobs,
    outline_box,
    pack_patch,
    parse_colours,
    place_job,
    read_head,
)
from defectmill.formats.shapes import (
    FAR,
    OUTSIDE,
    FormatError,
    Pictures,
    Runs,
    Source,
    find_pictures,
    is_background,
    is_hidden,
    polygons_to_mask,
)

LINES = ("line", "polyline", "point", "graph", "keypoints")


def find_supervisely(raw: Path) -> Source | None:
    """Find a Supervisely project: the folder itself or one in it.

    Raises:
        FormatError: a file is broken or has an unknown class, or an image is missing.
    """
    metas = [path for path in (raw / "meta.json", *sorted(raw.glob("*/meta.json"))) if path.is_file()]
    metas = [path for path in metas if '"classes"' in read_head(path)]
    found = {
        path: [p for p in sorted(path.parent.rglob("ann/")) if not is_hidden(p.relative_to(raw))]
        for path in metas
    }
    projects = [path for path, folders in found.items() if folders]
    if not projects:
        return None
    if len(projects) > 1:
        raise FormatError(f"{raw}: holds {len(projects)} projects of Supervisely; take one of them")
    meta, root = projects[0], projects[0].parent
    with located(f"{meta}: classes"):
        titles = {take(one, "title", str): one for one in take(read_json(meta), "classes", list)}
    pictures = Pictures(root, tuple(p for p in find_pictures(root).files if p.parent.name == "img"))
    # Before 2019 an annotation file was called without the suffix of its image.
    images = {path.with_suffix(""): path for path in pictures.files} | {path: path for path in pictures.files}
    jobs: dict[Path, Job] = {}
    for folder in found[meta]:
        for path in sorted(folder.glob("[!.]*.json")):
            image = images.get(folder.parent / "img" / path.stem)
            place_job(jobs, Job(f"{path}: objects", partial(_load, path)), image, path.stem, pictures)
    classes = [title for title in titles if not is_background(title)]
    colours = parse_colours(take(titles[title], "color", str, "") for title in classes)
    read, notes = open_jobs(jobs, pictures, partial(_draw, titles)), (CLEAN, *note_unread(jobs, pictures))
    return Source("supervisely", tuple(classes), read, colours, notes)


def _load(path: Path) -> tuple[tuple[int, int] | None, list, dict[str, int]]:
    document = read_json(path)
    size = take_shape(take(document, "size", dict), "height", "width")
    return size, take(document, "objects", list), {NO_AREA: 0, OUTSIDE: 0}


def _draw(
    titles: dict[str, Any], record: Any, size: tuple[int, int], issues: dict[str, int]
) -> list[Instance]:
    title = take(record, "classTitle", str)
    if title not in titles:
        raise FormatError(f"has the class {title!r}; meta.json has: {', '.join(titles)}")
    kind = take(record, "geometryType", str, take(titles[title], "shape", str, ""))
    if kind in LINES:
        issues[NO_AREA] += 1
        return []
    if kind == "bitmap":
        bitmap = take(record, "bitmap", dict)
        origin = read_corners([take(bitmap, "origin", list)])[0].astype(int)
        return [(title, [pack_patch(decode_patch(take(bitmap, "data", str)), origin.tolist(), size, issues)])]
    if kind not in ("rectangle", "polygon", "multipolygon"):
        raise FormatError(f"geometryType {kind!r} cannot be drawn as a mask; delete it or draw a polygon")
    parts = take(record, "parts", list) if kind == "multipolygon" else [take(record, "points", dict)]
    return [(title, [_draw_rings(part, kind, size, issues) for part in parts])]


def _draw_rings(part: Any, kind: str, size: tuple[int, int], issues: dict[str, int]) -> np.ndarray | Runs:
    """Draw an outline without its holes; one that is too short is given back, to be counted."""
    outer = read_corners(take(part, "exterior", list))
    if kind == "rectangle" and len(outer) != 2:
        raise FormatError(f"a rectangle has 2 points, not {len(outer)}")
    outer = outline_box(*outer) if kind == "rectangle" else outer
    if len(outer) < 3:
        return outer
    issues[OUTSIDE] += int(((outer < 0) | (outer > size[::-1])).any())
    mask = _fill(outer, size)
    for hole in take(part, "interior", list, []):
        mask[_fill(read_corners(hole), size) > 0] = 0
    return pack_patch(mask, (0, 0), size, issues)


def _fill(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw a closed line and what it encloses: (H, W) uint8 in {0, 1}."""
    if (corners != corners.round()).any() or not (np.abs(corners) <= FAR * max(size)).all():
        return polygons_to_mask([corners], size)  # which refuses what is far off
    mask = np.zeros(size, np.uint8)
    return cv2.fillPoly(mask, [corners.astype(np.int32)], 1) if len(corners) else mask
