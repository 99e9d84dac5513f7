"""Annotations in XML files: CVAT for images 1.1; and the class masks that Pascal VOC keeps beside such files.

CVAT counts along the edges of pixels, as `shapes` does; the runs of its masks go along each row, then down,
background first. Its formats: https://docs.cvat.ai/docs/other/xml_format and issue 6487 of cvat-ai/cvat.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from defectmill.dataset_info import Colour
from defectmill.files import DefectmillError, check_file, read_text
from defectmill.formats.masks.pixels import VOID, read_pixels
from defectmill.formats.reading import (
    CLEAN,
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
    parse_colours,
    place_job,
    read_head,
)
from defectmill.formats.shapes import (
    FormatError,
    Pictures,
    Runs,
    Source,
    find_pictures,
    find_split,
    is_background,
    is_hidden,
)
from defectmill.images import BLACK

MASKS, OBJECTS, IMAGES, BOXES = "SegmentationClass", "SegmentationObject", "JPEGImages", "Annotations"
BORDER_COLOUR: Colour = (224, 224, 192)  # of the borders that Pascal VOC draws; number 255 of its palette
NOTHING, BORDER = "", "(border)"  # what masks show beside classes
MEANT = {BLACK: NOTHING, BORDER_COLOUR: BORDER}  # by colours of which a labelmap.txt says nothing
BORDERS = f"mask pixels of a border ({VOID}, or the colour {BORDER_COLOUR}), taken as background"
PLACES = np.array([1 << 16, 1 << 8, 1])  # of red, green, blue in one number
FARTHEST = 1e9  # pixels
TAGS = "tag of an image as a whole, left out"
LAYERS = "where shapes of two classes overlap, both count: the order that z_order gives is not applied"


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses what could define entities, which may grow without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise FormatError(f"has a DOCTYPE ({name}), which no annotation tool writes; delete it")


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file; FormatError where it is none or has a DOCTYPE."""
    with located(str(path)):
        try:
            return ElementTree.parse(check_file(path), ElementTree.XMLParser(target=_NoDoctype())).getroot()
        except (ElementTree.ParseError, ValueError) as error:  # an unknown encoding
            if isinstance(error, DefectmillError):
                raise
            raise FormatError(f"not XML ({error})") from error


def find_cvat(raw: Path) -> Source | None:
    """Find the XML files of CVAT for images 1.1 in a folder (or take that file), and the images they list.

    Raises:
        FormatError: one of them is broken or of a video, has an unknown label, or an image is missing.
    """
    files = [path for path in list_files(raw, ".xml") if re.search(r"<annotations[\s>]", read_head(path))]
    if not files:
        return None
    pictures = find_pictures(raw.parent if raw.is_file() else raw)
    jobs: dict[Path, Job] = {}
    colours: dict[str, str | None] = {}
    for path in files:
        root = read_xml(path)
        if root.find("track") is not None:
            raise FormatError(f"{path}: of a video (it has tracks); export it as CVAT for images 1.1")
        colours |= _name_labels(path, root)
        for image in root.iterfind("image"):
            name = image.get("name", "")
            job = Job(f"{path}: shapes", partial(_load_cvat, image), find_split([image.get("subset", "")]))
            place_job(jobs, job, pictures.find(name, path), name, pictures)
    classes = [name for name in colours if not is_background(name)]
    if not classes:
        raise FormatError(f"{files[0]}: names no label and no shape, so there is no class")
    read, notes = open_jobs(jobs, pictures, _draw_cvat), (CLEAN, LAYERS, *note_unread(jobs, pictures))
    return Source("cvat", tuple(classes), read, parse_colours(colours[name] for name in classes), notes)


def _name_labels(path: Path, root: ElementTree.Element) -> dict[str, str | None]:
    """Name the labels of a file with their colours: those of its head or, without any, of its shapes."""
    shapes = [(image.get("name"), shape) for image in root.iterfind("image") for shape in image]
    labels = list(root.iterfind("meta//label"))
    if not labels:
        return dict.fromkeys(sorted({shape.get("label", "") for _, shape in shapes}))
    known = {label.findtext("name", "") for label in labels}
    for name, shape in shapes:
        if shape.get("label") not in known:
            offence = f"a {shape.tag} has the label {shape.get('label')!r}"
            raise FormatError(f"{path}: image {name!r}: {offence}; there are: {', '.join(sorted(known))}")
    # A label with a parent is a point of a skeleton.
    whole = [label for label in labels if not label.findtext("parent")]
    return {label.findtext("name", ""): label.findtext("color") for label in whole}


def _load_cvat(image: ElementTree.Element) -> tuple[tuple[int, int], list, dict[str, int]]:
    height, width = _read_numbers(image, "height width")
    return (int(height), int(width)), list(image), {NO_AREA: 0, TAGS: 0}


def _draw_cvat(shape: ElementTree.Element, size: tuple[int, int], issues: dict[str, int]) -> list[Instance]:
    kind = shape.tag
    if kind in ("points", "polyline", "skeleton", "tag"):
        issues[TAGS if kind == "tag" else NO_AREA] += 1
        return []
    degrees = float(_read_numbers(shape, "rotation")[0]) if shape.get("rotation") else 0.0
    piece: np.ndarray | Runs
    if kind == "polygon":
        piece = _read_corners(shape.get("points", ""))
    elif kind == "mask":
        piece = _read_mask(shape, size, issues)
    elif kind == "box":
        numbers = _read_numbers(shape, "xtl ytl xbr ybr")
        piece = outline_box(numbers[:2], numbers[2:], degrees)
    elif kind == "ellipse":
        numbers = _read_numbers(shape, "cx cy rx ry")
        piece = outline_ellipse(numbers[:2], numbers[2:], degrees)
    else:
        raise FormatError(f"a {kind} cannot be drawn as a mask; delete it or draw a polygon")
    return [(shape.get("label", ""), [piece])]


def _read_numbers(element: ElementTree.Element, keys: str) -> np.ndarray:
    """Read attributes that are numbers, by their names: (n,) float."""
    values = [element.get(key) for key in keys.split()]
    try:
        numbers = np.array([float(value or "") for value in values])
        if not (np.abs(numbers) < FARTHEST).all():  # neither inf nor nan
            raise ValueError("no pixels")
    except ValueError as error:
        raise FormatError(f"{element.tag} has {keys} = {values}; numbers are wanted") from error
    return numbers


def _read_corners(text: str) -> np.ndarray:
    try:
        return np.array([pair.split(",") for pair in text.split(";")], float).reshape(-1, 2)
    except ValueError as error:
        raise FormatError(f"points are x,y;x,y;..., not {text!r:.60}") from error


def _read_mask(shape: ElementTree.Element, size: tuple[int, int], issues: dict[str, int]) -> Runs:
    left, top, width, height = (int(n) for n in _read_numbers(shape, "left top width height"))
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise FormatError(f"a mask of ({height}, {width}) at ({top}, {left}) leaves the image of {size}")
    text, area = shape.get("rle", ""), height * width
    try:
        runs = np.array(text.split(","), np.int64)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"runs are whole numbers with commas, not {text!r:.60}") from error
    if runs.min() < 0 or runs.max() > area or runs.sum() != area:
        raise FormatError(f"runs of {runs.sum()} pixels for a mask of ({height}, {width}): {text!r:.60}")
    patch = np.repeat(np.arange(runs.size) % 2, runs).reshape(height, width)
    return pack_patch(patch, (left, top), size, issues)


def find_voc(raw: Path) -> Source | None:
    """Find Pascal VOC's layout in a folder or below: class masks in SegmentationClass, images in JPEGImages.

    The masks show the colours of labelmap.txt ("name:r,g,b:parts:actions") or, without one, numbers.

    Raises:
        FormatError: there are boxes only, a mask is broken or without an image, or shows what has no name.
    """
    below = [path for path in raw.rglob("*/") if not is_hidden(path.relative_to(raw))] if raw.is_dir() else []
    folders = sorted(path for path in (raw, *below) if (path / MASKS).is_dir())
    if not folders:
        homes = [path for path in (raw, *below) if (path / IMAGES).is_dir()]
        boxes = [next((path / BOXES).glob("*.xml"), None) for path in homes]
        if told := [path for path in boxes if path and "<bndbox>" in read_head(path)]:
            raise FormatError(f"{told[0]}: holds boxes, and there is no {MASKS}/ with masks beside {BOXES}/")
        return None
    every = find_pictures(raw)
    shown = [path for path in every.files if not {MASKS, OBJECTS} & {*path.relative_to(raw).parts}]
    pictures, jobs = Pictures(raw, tuple(shown)), dict[Path, Job]()
    colours: dict[str, Colour | None] = {}
    for folder in folders:
        labels, splits = _read_labelmap(folder / "labelmap.txt"), _read_splits(folder)
        for path in list_files(folder / MASKS, ".png"):
            inner = path.relative_to(folder / MASKS).with_suffix("")
            job = Job(f"{path}: classes", partial(_load_voc, path, labels), splits.get(inner.as_posix(), ""))
            image = _find_image(folder.relative_to(raw) / IMAGES / inner, path, pictures)
            place_job(jobs, job, image, inner.name, pictures)
            if not labels:
                colours |= {name: None for name, _ in _load_voc(path, labels)[1]}
        colours |= {name: colour for colour, name in labels.items() if name not in (NOTHING, BORDER)}
    if not colours:
        raise FormatError(f"{folders[0] / MASKS}: holds no PNG mask of a class")
    if None in colours.values():
        colours = dict.fromkeys(sorted(colours, key=lambda name: (len(name), name)))
    known = tuple(colour for colour in colours.values() if colour)
    read, notes = open_jobs(jobs, pictures, _draw_voc), note_unread(jobs, pictures)
    return Source("voc", tuple(colours), read, known, notes)


def _find_image(name: Path, mask: Path, pictures: Pictures) -> Path | None:
    """Find the image of a mask by its name without suffix."""
    suffixes = sorted({path.suffix.lower() for path in pictures.files if path.stem == name.name})
    found = [pictures.find(f"{name}{suffix}", mask) for suffix in suffixes]
    if len(found) > 1:
        raise FormatError(f"{mask}: its image may be {found[0]} or {found[1]}; rename one of them")
    return found[0] if found else None


def _read_labelmap(path: Path) -> dict[Colour, str]:
    """Read what the colours of masks mean: the name of a class, NOTHING or BORDER; {} without a file."""
    labels: dict[Colour, str] = {}
    for number, line in enumerate(read_text(path).splitlines() if path.is_file() else [], 1):
        if not line.strip() or line.startswith("#"):
            continue
        plain = ":".join(",".join(map(str.strip, part.split(","))) for part in line.split(":"))
        match = re.fullmatch(r"(.+?):([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})(:.*)?", plain)
        if not match or max(map(int, match.group(2, 3, 4))) > 255:
            raise FormatError(f"{path}: line {number} is {line!r}; name:red,green,blue:: is wanted")
        name, colour = match[1], (int(match[2]), int(match[3]), int(match[4]))
        if colour in labels:
            raise FormatError(f"{path}: line {number} gives {name} the colour {colour} of {labels[colour]}")
        is_border = name.casefold() in ("ignored", "void")
        labels[colour] = NOTHING if is_background(name) else BORDER if is_border else name
    return labels | {c: what for c, what in MEANT.items() if c not in labels} if labels else {}


def _read_splits(folder: Path) -> dict[str, str]:
    """Read which split the lists in ImageSets/Segmentation name: {image, without suffix: split}."""
    lists = [path for path in folder.glob("ImageSets/Segmentation/*.txt") if find_split([path.stem])]
    return {line.strip(): find_split([path.stem]) for path in lists for line in read_text(path).splitlines()}


def _load_voc(
    path: Path, labels: Mapping[Colour, str]
) -> tuple[tuple[int, int], list[tuple[str, np.ndarray]], dict[str, int]]:
    """Read a class mask: its (height, width), the mask of each class in it, and its border as an issue."""
    pixels = read_pixels(path)
    if not labels and pixels.numbers is None:
        raise FormatError(f"{path}: shows colours; a labelmap.txt beside {MASKS}/ is to name them")
    values = np.zeros(0) if pixels.numbers is None else pixels.numbers
    if labels:
        colours = values[:, :, None].repeat(3, axis=2) if pixels.colours is None else pixels.colours
        values = colours.astype(np.int32) @ PLACES
    names = {np.array(colour) @ PLACES: name for colour, name in labels.items()}
    masks, n_border = [], 0
    for value in np.unique(values).tolist():
        mask = values == value
        name = names.get(value) if labels else {0: NOTHING, VOID: BORDER}.get(value, f"class {value}")
        if name is None:
            row, column = np.argwhere(mask)[0]
            shown = (value >> 16, value >> 8 & 255, value & 255)
            raise FormatError(
                f"{path}: pixel ({row}, {column}) has the colour {shown}, which labelmap.txt lacks"
            )
        if name == BORDER:
            n_border = int(mask.sum())
        elif name != NOTHING:
            masks.append((name, mask))
    return values.shape, masks, {BORDERS: n_border}


def _draw_voc(
    record: tuple[str, np.ndarray], size: tuple[int, int], issues: dict[str, int]
) -> list[Instance]:
    return [(record[0], [pack_patch(record[1], (0, 0), size, issues)])]
