"""YOLO's segmentation labels: beside images/ a folder labels/ with a text file for each image; in and out.

A line is an instance: its class, counted from 0, then x and y of each point as shares of width and height.
"""

import re
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath
from unicodedata import normalize

import numpy as np
import pandas as pd
import yaml

from defectmill.dataset_info import DatasetInfo, read_yaml
from defectmill.files import DefectmillError, name_masks, read_file, read_text, write_atomically
from defectmill.formats.shapes import (
    Annotated,
    FormatError,
    Source,
    draw_instances,
    find_pictures,
    find_split,
    is_background,
    is_hidden,
    make_loss_table,
    mask_to_polygons,
    name_parts,
    pack_masks,
    turn_to_stored,
)
from defectmill.images import read_orientation, read_shape

IMAGES, LABELS, CLASSES, YAML = "images", "labels", "classes.txt", (".yaml", ".yml")
MOST_CLASSES = 9999  # a table of labels has room for no more
CLEAN = "image without a label file, taken as clean"
UNLABELLED = "image of a folder that has no folder of labels, nobody annotated it"
BOXES = "four corners: are they oriented boxes? then the masks are boxes too, larger than what is in them"
UPRIGHT = "orientation tag, applied: outlines are drawn on the upright image"

Instances = list[tuple[int, np.ndarray]]  # class from 0; (n, 2) float, x and y as shares of width and height


def find(raw: Path) -> Source | None:
    """Find YOLO's label files in a folder (or that of a data.yaml), and the images to which they belong.

    In their paths, images/ stands for labels/: images/train/a.jpg has labels/train/a.txt, train/images/a.jpg
    has train/labels/a.txt. Where two images share a stem, the label files are a.jpg.txt and a.png.txt.

    Raises:
        FormatError: a broken line, boxes or keypoints instead of outlines, a label file without its image.
    """
    root = raw.parent if raw.suffix.lower() in YAML and raw.is_file() else raw
    labels = _list_labels(root)
    names, notes = _find_names(root) if labels else ([], [])
    if not labels or not (names or _looks_right(labels.values())):
        return None
    pictures = find_pictures(root)
    images = [path for path in pictures.files if IMAGES in path.relative_to(root).parts[:-1]]
    if len(images) < len(pictures.files):
        notes.append(f"image files in no folder {IMAGES}, not read: {len(pictures.files) - len(images)}")
    keys = _name_labels(images, root)
    if orphans := sorted(labels[key] for key in set(labels) - set(keys.values())):
        more = f"; so have {len(orphans) - 1} others" * (len(orphans) > 1)
        raise FormatError(f"{orphans[0]}: has no image in {IMAGES}, or several of its stem{more}")
    parsed = _parse_labels(labels.values(), len(names))
    lines = [points for instances in parsed.values() for _, points in instances]
    if len(lines) > 1 and all(len(points) == 4 for points in lines):
        notes.append(f"all {len(lines)} outlines have {BOXES}")
    last = max((number for instances in parsed.values() for number, _ in instances), default=-1)
    names = names or [f"class {number}" for number in range(last + 1)]
    homes = {_make_key(folder.relative_to(root)) for folder in root.rglob("*/")}
    found: dict[Path, tuple[Instances, str]] = {}
    for image, key in keys.items():
        lack = "" if key in labels else CLEAN if PurePath(key).parent.as_posix() in homes else UNLABELLED
        found[image] = ([] if lack else parsed[labels[key]], lack)
    parts = name_parts({image: find_split(image.relative_to(root).parts[:-1]) for image in images})
    classes = tuple(name for name in names if not is_background(name))
    return Source("yolo", classes, partial(_read, found, parts, names), notes=tuple(notes))


def write(masks: Iterable[tuple[str, np.ndarray]], info: DatasetInfo, folder: Path) -> pd.DataFrame:
    """Write (image id, (H, W, C) uint8 masks) as labels/ and data.yaml; see `shapes.mask_to_polygons`.

    A clean image gets an empty file. The images themselves belong in images/.

    Returns:
        ImageId, ClassId, pixels of the mask, lost and gained (read back from the files), for each mask.
    """
    packed, texts = {}, {}
    for image_id, mask in masks:
        packed[image_id] = pack_masks(image_id, mask, info)
        outlines = [(c, one) for c in range(mask.shape[2]) for one in mask_to_polygons(mask[:, :, c])]
        shares = [(c, (one / mask.shape[1::-1]).ravel().tolist()) for c, one in outlines]
        texts[image_id] = "".join(" ".join([f"{c}", *(f"{v:.7g}" for v in one)]) + "\n" for c, one in shares)
    home = folder / LABELS
    paths = {image_id: home / f"{name}.txt" for image_id, name in name_masks(texts).items()}
    with write_atomically(home) as part:
        part.mkdir()
        for image_id, text in texts.items():
            (part / paths[image_id].name).write_text(text, encoding="utf-8", newline="")
    about = {"train": IMAGES, "val": IMAGES, "names": dict(enumerate(info.class_names))}
    with write_atomically(folder / "data.yaml") as part:
        part.write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), encoding="utf-8")
    parsed = _parse_labels(paths.values(), info.n_classes)
    shapes = {image_id: tuple(runs[0]["size"]) for image_id, runs in packed.items()}
    read = {i: _draw(parsed[path], shapes[i], info.class_names)[0] for i, path in paths.items()}
    return make_loss_table(((i, packed[i], drawn) for i, drawn in read.items()), info)


def _list_labels(root: Path) -> dict[str, Path]:
    """List the label files below a folder by their key: the path in it, accents encoded in one way."""
    paths = ((path.relative_to(root), path) for path in sorted(root.rglob("*.txt")))
    inside = [
        (i, path) for i, path in paths if LABELS in i.parts[:-1] and not is_hidden(i) and path.is_file()
    ]
    return {_make_key(inner): path for inner, path in inside if inner.name != CLASSES}


def _make_key(inner: PurePath) -> str:
    return normalize("NFC", inner.as_posix())


def _name_labels(images: list[Path], root: Path) -> dict[Path, str]:
    """Give the key that each image's label file has."""
    by_folder: dict[PurePath, dict[str, Path]] = defaultdict(dict)
    for image in images:
        by_folder[image.parent.relative_to(root)][image.name] = image
    keys: dict[Path, str] = {}
    for folder, inside in by_folder.items():
        last = len(folder.parts) - 1 - folder.parts[::-1].index(IMAGES)
        home = PurePath(*folder.parts[:last], LABELS, *folder.parts[last + 1 :])
        keys |= {inside[name]: _make_key(home / f"{stem}.txt") for name, stem in name_masks(inside).items()}
    return keys


def _looks_right(paths: Iterable[Path]) -> bool:
    """Whether the first line of all files is numbers, as in a label file; files without a line may be."""
    for path in paths:
        with path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"")
        if line:
            return bool(re.fullmatch(rb"[0-9]+(\.0*)?(\s+[-+.0-9eE]+)+", line.strip()))
    return True


def _find_names(root: Path) -> tuple[list[str], list[str]]:
    """Find the names of the classes, from 0 on, in a data.yaml or such, else in classes.txt; and notes."""
    paths = sorted(path for level in ("*", "*/*") for path in root.glob(level))
    found = {path: _read_names(path) for path in paths if path.suffix.lower() in YAML and path.is_file()}
    if not any(found.values()):
        found = {path: _read_lines(path) for path in paths if path.name == CLASSES and path.is_file()}
    found = {path: names for path, names in found.items() if names}
    if not found:
        return [], [f"no data.yaml and no {CLASSES}: the classes have no names"]
    first, names = next(iter(found.items()))
    for path, others in found.items():
        if others != names:
            raise FormatError(f"{path}: names {others}, {first} names {names}; keep the right one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise FormatError(f"{first}: two classes are called {twice[0]!r}")
    return names, [f"the classes are named by {first.relative_to(root)}"]


def _read_names(path: Path) -> list[str]:
    """Read the names in a data.yaml; none where the file is about something else."""
    text = read_file(path).removeprefix(BOM_UTF8)
    if not re.search(rb"^(names|kpt_shape)\s*:", text, re.M):
        return []
    try:
        about = read_yaml(text, as_text=True)
        names = about["names"]
        if isinstance(names, dict):
            by_number = {int(number): name for number, name in names.items()}
            if not 0 <= min(by_number) <= max(by_number) <= MOST_CLASSES:
                raise ValueError(f"classes count from 0 to {MOST_CLASSES} at most: {[*by_number]}")
            names = [by_number.get(number, f"class {number}") for number in range(max(by_number) + 1)]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names are neither a list nor {number: name}")
        if int(about.get("nc", len(names))) != len(names):
            raise ValueError(f"nc is {about['nc']}, but there are {len(names)} names")
        if "kpt_shape" in about:
            raise ValueError("the labels are keypoints (kpt_shape), not outlines")
    except (TypeError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not what YOLO wants: {' '.join(str(error).split())}") from error
    return names


def _read_lines(path: Path) -> list[str]:
    """Read a text file: its lines without blanks around them, and without the empty ones at its end."""
    try:
        lines = [line.strip() for line in read_text(path).split("\n")]
    except DefectmillError as error:
        raise FormatError(str(error)) from error
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _parse_labels(paths: Iterable[Path], n_classes: int) -> dict[Path, Instances]:
    """Parse label files; n_classes is 0 where nobody says how many there are."""
    parsed: dict[Path, Instances] = {}
    boxes = []
    for path in paths:
        lines = {f"{path} line {n}": line for n, line in enumerate(_read_lines(path), 1) if line}
        instances = {where: _parse_line(line, where, n_classes) for where, line in lines.items()}
        boxes += [where for where, (_, points) in instances.items() if len(points) == 2]
        parsed[path] = list(instances.values())
    if boxes:
        share = f"{len(boxes)} of {sum(map(len, parsed.values()))} lines are boxes, no masks (5 numbers)"
        raise FormatError(f"{boxes[0]}: {share}; export or draw outlines")
    return parsed


def _parse_line(line: str, where: str, n_classes: int) -> tuple[int, np.ndarray]:
    try:
        number, *rest = map(float, line.split())
    except ValueError as error:
        raise FormatError(f"{where}: {error}; numbers are wanted: class x y x y x y ...") from error
    if number < 0 or not number.is_integer() or number >= (n_classes or MOST_CLASSES):
        known = f"classes count from 0 to {n_classes - 1}" if n_classes else "classes count from 0"
        raise FormatError(f"{where}: class {number:g}; {known}")
    if len(rest) % 2:
        raise FormatError(f"{where}: {len(rest)} numbers after the class; x and y of each point are wanted")
    if wrong := [value for value in rest if not -1 <= value <= 2]:
        raise FormatError(f"{where}: {wrong[0]:g}; x and y are shares of width and height, from 0 to 1")
    return int(number), np.array(rest).reshape(-1, 2)


def _read(
    found: dict[Path, tuple[Instances, str]], parts: dict[Path, str], names: list[str]
) -> Iterator[Annotated]:
    for image in sorted(found):
        instances, lack = found[image]
        stored, orientation = read_shape(image), read_orientation(image)
        odd = {CLEAN: 0, UNLABELLED: 0, UPRIGHT: int(orientation > 1)} | ({lack: 1} if lack else {})
        if lack == UNLABELLED:
            yield Annotated(image, stored, None, parts[image], odd)
            continue
        masks, issues = _draw(instances, stored[::-1] if orientation > 4 else stored, names)
        yield Annotated(image, stored, turn_to_stored(masks, orientation), parts[image], issues | odd)


def _draw(
    instances: Instances, shape: tuple[int, int], names: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    return draw_instances([(names[number], [points * shape[::-1]]) for number, points in instances], shape)
