"""COCO: one JSON file of images, categories and annotations, each with polygons or runs; in and out."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from pycocotools import mask as coco_masks
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from defectmill.dataset_info import DatasetInfo, explain_missing
from defectmill.files import write_atomically
from defectmill.formats.shapes import (
    Annotated,
    FormatError,
    Pictures,
    Runs,
    Source,
    draw_instances,
    find_pictures,
    find_split,
    is_background,
    is_hidden,
    make_loss_table,
    name_parts,
    pack_masks,
    turn_to_stored,
)
from defectmill.images import read_orientation, read_shape
from defectmill.rle import RleError, parse_coco_runs

MOST = 50  # JSON files in one folder; where there are more, each belongs to one image, and it is not COCO
CROWD = "annotation of a crowd (iscrowd), read like any other"
UNLISTED = "image file that no JSON file lists, nobody annotated it"
STORED = "orientation tag, not applied: outlines are drawn on the pixels as they are stored"
UPRIGHT = "orientation tag, applied: outlines are drawn on the upright image"


class _Model(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


class _Image(_Model):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(_Model):
    id: int
    name: str
    supercategory: str | None = None


class _Runs(_Model):
    size: tuple[int, int]
    counts: list[int] | str


class _Annotation(_Model):
    image_id: int | str
    category_id: int
    segmentation: list[list[FiniteFloat]] | _Runs | None = None
    iscrowd: bool | None = None


class _File(_Model):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True)
class _Job:
    """An image with its annotations: (place in the JSON file `where`, class, annotation)."""

    where: Path
    entry: _Image
    annotations: list[tuple[str, str, _Annotation]] = field(default_factory=list)


def find(raw: Path) -> Source | None:
    """Find COCO's JSON files in a folder (or take that file), and the images that they list in it.

    The files lie in the folder, in annotations/ or in a folder for each split; images anywhere in it.

    Raises:
        FormatError: one of them is broken, holds boxes without outlines, or lists an image that is missing.
    """
    files, notes = _find_files(raw)
    if not files:
        return None
    root = raw if raw.is_dir() else raw.parents[raw.parent.name == "annotations"]
    pictures = find_pictures(root)
    jobs: dict[Path, _Job] = {}
    splits: dict[Path, str] = {}
    classes: dict[str, None] = {}
    for path, file in files.items():
        names = _name_classes(path, file, notes)
        classes |= dict.fromkeys(name for name in names.values() if not is_background(name))
        for image, job in _find_images(_collect(path, file, names), pictures).items():
            if image in jobs:
                raise FormatError(f"{path}: lists {image}, which {jobs[image].where} lists too")
            jobs[image] = job
            splits[image] = find_split(path.relative_to(root).parts)
    read = {image.parent for image in jobs}
    if unread := sorted({str(i.parent.relative_to(root)) for i in pictures.files if i.parent not in read}):
        notes.append(f"images in folders without an annotated one are not read: {', '.join(unread)}")
    for image in pictures.files:
        if image.parent in read:
            splits[image] = splits.get(image) or find_split(image.relative_to(root).parts[:-1])
    return Source(
        "coco", tuple(classes), partial(_read, jobs, name_parts(splits)), notes=tuple(dict.fromkeys(notes))
    )


def write(masks: Iterable[tuple[str, np.ndarray]], info: DatasetInfo, folder: Path) -> pd.DataFrame:
    """Write (image id, (H, W, C) uint8 masks) as annotations.json: compressed runs, which lose nothing.

    An annotation is a component of a class; pixels that touch at a corner are one.

    Returns:
        ImageId, ClassId, pixels of the mask, lost and gained (read back from the file: 0), for each mask.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    packed = {}
    for image_id, mask in masks:
        packed[image_id] = pack_masks(image_id, mask, info)
        height, width, _ = mask.shape
        images.append({"id": len(images) + 1, "file_name": image_id, "width": width, "height": height})
        for kind, channel in zip(info.classes, np.moveaxis(mask, 2, 0), strict=True):
            owner = {"image_id": len(images), "category_id": kind.id}
            pieces = _encode_components(channel)
            annotations += [{"id": len(annotations) + n, **owner, **p} for n, p in enumerate(pieces, 1)]
    categories = [{"id": kind.id, "name": kind.name, "supercategory": "defect"} for kind in info.classes]
    parts = {"info": {"description": info.title}, "images": images, "annotations": annotations}
    path = folder / "annotations.json"
    with write_atomically(path) as part:
        part.write_text(json.dumps(parts | {"categories": categories}), encoding="utf-8")
    jobs = _collect(path, _parse(path, path.read_bytes()), dict(enumerate(info.class_names, 1)))
    drawn = (_draw(job, tuple(packed[job.entry.file_name][0]["size"])) for job in jobs)
    return make_loss_table(
        ((image_id, packed[image_id], read) for image_id, (read, _) in zip(packed, drawn, strict=True)), info
    )


def _encode_components(mask: np.ndarray) -> Iterator[dict[str, Any]]:
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    for number, (*box, area) in zip(range(1, count), boxes[1:].tolist(), strict=True):
        runs = coco_masks.encode(np.asfortranarray(numbers == number, np.uint8))
        outline = {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}
        yield {"segmentation": outline, "bbox": box, "area": area, "iscrowd": 0}


def _find_files(raw: Path) -> tuple[dict[Path, _File], list[str]]:
    """Find and parse COCO's files of instances: by path, sorted; and notes."""
    home, levels = (raw.parent, [raw.name]) if raw.is_file() else (raw, ["*", "*/*", "*/*/*"])
    by_folder = defaultdict(list)
    for path in sorted(path for level in levels for path in home.glob(level)):
        if path.suffix.lower() == ".json" and path.is_file() and not is_hidden(path.relative_to(home)):
            by_folder[path.parent].append(path)
    few = [path for inside in by_folder.values() if len(inside) <= MOST for path in inside]
    found = {path: data for path in few if (data := _peek(path))}
    # As COCO ships them: beside captions, keypoints and stuff, which tell of the same images.
    instances = [path for path in found if path.name.startswith("instances")]
    left = [path.name for path in found if instances and path not in instances]
    notes = [f"beside instances*.json, these are not read: {', '.join(left)}"] if left else []
    return {path: _parse(path, found[path]) for path in sorted(instances or found)}, notes


def _peek(path: Path) -> bytes | None:
    """Read a file that may be COCO's; None where it is another."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip()
    has = [word in data for word in (b'"images"', b'"annotations"', b'"category_id"', b'"categories"')]
    return data if data[:1] == b"{" and all(has[:2]) and any(has[2:]) else None


def _parse(path: Path, data: bytes) -> _File:
    try:
        file = _File.model_validate_json(data)
    except ValidationError as error:
        # The deepest: of what may be a list or runs, that is the one which was meant.
        first = max(error.errors(include_url=False), key=lambda offence: len(offence["loc"]))
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"][:3]).lstrip(".")
        held = "" if first["type"] == "json_invalid" else f", not {first['input']!r:.60}"
        raise FormatError(f"{path}: {place or 'not JSON'}: {first['msg']}{held}") from error
    for what, ids in (("images", file.images), ("categories", file.categories)):
        one, uses = Counter(one.id for one in ids).most_common(1)[0] if ids else ("", 0)
        if uses != 1:
            raise FormatError(f"{path}: {uses} {what} have the id {one!r}" if uses else f"{path}: no {what}")
    outlines = [one.segmentation for one in file.annotations]
    lacking = [n for n, one in enumerate(outlines) if not (any(one) if isinstance(one, list) else one)]
    if lacking:
        some = f"{len(lacking)} of {len(outlines)} annotations are boxes, first annotations[{lacking[0]}]"
        offence = some if len(lacking) < len(outlines) else "holds boxes only"
        raise FormatError(f"{path}: {offence}; masks need outlines (segmentation)")
    return file


def _name_classes(path: Path, file: _File, notes: list[str]) -> dict[int, str]:
    """Name the categories by id, in the file's order; what is odd about them is added to the notes."""
    used = {annotation.category_id for annotation in file.annotations}
    parents = {category.supercategory for category in file.categories}
    names: dict[int, str] = {}
    for category in file.categories:
        place = f"{path.name}: category {category.id} {category.name!r}"
        if category.supercategory == "none" and category.name in parents and category.id not in used:
            notes.append(f"{place} only groups the others (Roboflow), it is no class")
            continue
        if category.name in names.values():
            notes.append(f"{place} and another of this name are read as one class")
        names[category.id] = category.name
    return names


def _collect(path: Path, file: _File, names: dict[int, str]) -> list[_Job]:
    """Collect the annotations of each image, in the file's order."""
    jobs = {entry.id: _Job(path, entry) for entry in file.images}
    for number, one in enumerate(file.annotations):
        place = f"annotations[{number}]"
        if one.image_id not in jobs:
            raise FormatError(f"{path}: {place}: no image has the id {one.image_id!r}")
        if one.category_id not in names:
            raise FormatError(f"{path}: {place}: no category has the id {one.category_id}")
        jobs[one.image_id].annotations.append((place, names[one.category_id], one))
    return list(jobs.values())


def _find_images(jobs: list[_Job], pictures: Pictures) -> dict[Path, _Job]:
    found: dict[Path, _Job] = {}
    missing: list[_Job] = []
    for job in jobs:
        image = pictures.find(job.entry.file_name, job.where)
        if image is None:
            missing.append(job)
        elif image in found:
            raise FormatError(
                f"{job.where}: images {found[image].entry.id} and {job.entry.id} are one, {image}"
            )
        else:
            found[image] = job
    if missing:
        name, more = missing[0].entry.file_name, f"; nor are {len(missing) - 1} others" * (len(missing) > 1)
        hint = explain_missing(name, [image.name for image in pictures.files], pictures.root)
        raise FormatError(f"{missing[0].where}: image {name!r} is not in {pictures.root}{more}{hint}")
    return found


def _read(jobs: dict[Path, _Job], parts: dict[Path, str]) -> Iterator[Annotated]:
    for image in sorted(parts):
        stored, orientation = read_shape(image), read_orientation(image)
        if image not in jobs:
            yield Annotated(image, stored, None, parts[image], {UNLISTED: 1})
            continue
        job = jobs[image]
        shape = (job.entry.height or stored[0], job.entry.width or stored[1])
        upright = orientation > 4 and shape == stored[::-1] != stored
        if shape != stored and not upright:
            offence = f"{job.entry.file_name!r} has (height, width) {shape} there, and {stored} as a file"
            raise FormatError(f"{job.where}: {offence}; annotate the images that are used")
        masks, issues = _draw(job, shape)
        issues |= {UNLISTED: 0, STORED: int(orientation > 1 and not upright), UPRIGHT: int(upright)}
        turned = turn_to_stored(masks, orientation) if upright else masks
        yield Annotated(image, stored, turned, parts[image], issues)


def _draw(job: _Job, shape: tuple[int, int]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Draw the annotations of one image: {class: (H, W) uint8 in {0, 1}}, and issues."""
    try:
        instances = [(name, _list_pieces(place, one, shape)) for place, name, one in job.annotations]
        masks, issues = draw_instances(instances, shape)
    except FormatError as error:
        raise FormatError(f"{job.where}: {job.entry.file_name}: {error}") from error
    return masks, {**issues, CROWD: sum(bool(one.iscrowd) for _, _, one in job.annotations)}


def _list_pieces(place: str, one: _Annotation, shape: tuple[int, int]) -> list[np.ndarray | Runs]:
    outline = one.segmentation or []
    if isinstance(outline, _Runs):
        # Checked first: pycocotools reads on beyond the end of runs that are too short.
        try:
            counts = parse_coco_runs(outline.counts, shape)
        except RleError as error:
            raise FormatError(f"{place}: {error}") from error
        if outline.size != shape:
            raise FormatError(f"{place}: runs of {outline.size} for an image of {shape}")
        return [coco_masks.frPyObjects({"size": shape, "counts": counts}, *shape)]
    if odd := [len(line) for line in outline if len(line) % 2]:
        raise FormatError(f"{place}: a polygon of {odd[0]} numbers; x and y of each point are wanted")
    return [np.array(line).reshape(-1, 2) for line in outline]
