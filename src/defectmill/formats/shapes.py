"""What every annotation format is read into: an image with a mask for each of its classes; polygons.

A polygon is (n, 2) float, x then y in pixels, where (0, 0) is the upper left corner of the first pixel:
the middle of that pixel is (0.5, 0.5). Readers shift the coordinates of tools that count otherwise.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import cv2
import numpy as np
import pandas as pd
from pycocotools import mask as coco_masks

from defectmill.dataset_info import Colour, DatasetInfo
from defectmill.files import DefectmillError
from defectmill.images import list_images, turn_upright

SPLITS = {"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid"}
SPLITS |= {"test": "test", "testing": "test"}
SHORT = "polygon of fewer than 3 points, left out"
OUTSIDE = "polygon that leaves its image, cut off at the edge"
FAINT = "annotation that covers the middle of no pixel, nothing drawn"
NO_CLASS = "annotation of background, which is no class, left out"
FAR = 10  # times the image's size; a polygon that reaches further is in other units

Runs = dict[str, Any]  # pycocotools' own: size (H, W), counts as bytes
Written = tuple[str, list[Runs], Mapping[str, np.ndarray]]  # image id, masks as written and as read back


class FormatError(DefectmillError):
    """Annotations that cannot be read: file, place in it, value and what to do."""


@dataclass(frozen=True)
class Annotated:
    """One image of a source with its masks.

    image: its file. shape: (height, width) of its stored pixels. masks: {class name: (H, W) uint8 in {0, 1}},
    all instances of a class in one mask; a class may be missing. None: nobody annotated the image. part:
    "train", "test" or "" where the source does not say. issues: {"what is odd, and what became of it": how
    many of it}; 0: looked for and not found.
    """

    image: Path
    shape: tuple[int, int]
    masks: Mapping[str, np.ndarray] | None
    part: str = ""
    issues: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Annotated images in one format.

    format: its name. classes: their names, in the source's order; background is none. read: gives the
    images, one after the other, sorted by file. colours: of the classes, where the source has them. notes:
    what a person should know of how it is read.
    """

    format: str
    classes: tuple[str, ...]
    read: Callable[[], Iterator[Annotated]]
    colours: tuple[Colour, ...] = ()
    notes: tuple[str, ...] = ()


def polygons_to_mask(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Draw polygons as COCO's own tool does: (H, W) uint8 in {0, 1}, all of them in one mask.

    A pixel is drawn where its middle lies inside a polygon, to a tenth of a pixel.

    Args:
        polygons: (n, 2) float each, x and y, n >= 3; what lies outside the image is cut off.
        shape: (H, W).
    Raises:
        FormatError: a coordinate is no number, or as far outside as only other units can be.
    """
    return _decode([_encode(polygon, shape) for polygon in polygons], shape)


def draw_instances(
    instances: Iterable[tuple[str, Sequence[np.ndarray | Runs]]], shape: tuple[int, int]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Draw the instances of an image, each (class, its polygons or runs).

    Returns:
        {class: (H, W) uint8 in {0, 1}} and issues, 0 where there was none: SHORT, OUTSIDE, FAINT, NO_CLASS.
    Raises:
        FormatError: as of `polygons_to_mask`.
    """
    drawn: dict[str, list[Runs]] = defaultdict(list)
    issues = dict.fromkeys((SHORT, OUTSIDE, FAINT, NO_CLASS), 0)
    for name, pieces in instances:
        if is_background(name):
            issues[NO_CLASS] += 1
            continue
        long = [piece for piece in pieces if isinstance(piece, dict) or len(piece) >= 3]
        runs = [piece if isinstance(piece, dict) else _encode(piece, shape) for piece in long]
        edges = [piece for piece in long if not isinstance(piece, dict)]
        issues[SHORT] += len(pieces) - len(long)
        issues[OUTSIDE] += sum(bool(((edge < 0) | (edge > shape[::-1])).any()) for edge in edges)
        if runs:
            drawn[name].append(coco_masks.merge(runs))
            issues[FAINT] += int(coco_masks.area(drawn[name][-1]) == 0)
    return {name: _decode(runs, shape) for name, runs in drawn.items()}, issues


def is_background(name: str) -> bool:
    """Whether a class of some tool is what no class means here."""
    return name.strip(" _").casefold() == "background"


def turn_to_stored(masks: Mapping[str, np.ndarray], orientation: int) -> dict[str, np.ndarray]:
    """Turn masks drawn on an upright image to its stored pixels; see `images.read_orientation`."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return {name: turn_upright(mask[:, :, None], back)[:, :, 0] for name, mask in masks.items()}


def _encode(polygon: np.ndarray, shape: tuple[int, int]) -> Runs:
    corners = np.asarray(polygon, float)
    far = corners[~(np.abs(corners) <= FAR * max(shape))]  # not a number is far too
    if far.size:
        raise FormatError(f"a polygon reaches {far[0]:g}; pixels of an image of {shape} are wanted")
    return coco_masks.frPyObjects([corners.ravel().tolist()], *shape)[0]


def _decode(runs: list[Runs], shape: tuple[int, int]) -> np.ndarray:
    runs = runs or coco_masks.encode(np.zeros((*shape, 1), np.uint8, order="F"))
    while len(runs) > 1:  # by tens: one by one, the time grows with the square
        runs = [coco_masks.merge(runs[start : start + 10]) for start in range(0, len(runs), 10)]
    return np.ascontiguousarray(coco_masks.decode(runs[0]))


def mask_to_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Outline a mask along the edges of its pixels; `polygons_to_mask` draws exactly the same mask from it.

    A hole is joined to the outline around it by a bridge of no width, gone there and back again. Nothing is
    lost where a polygon is filled by the even-odd rule; a tool that paints the line itself as well, such as
    `cv2.fillPoly`, adds the pixels along edges and bridges.

    Args:
        mask: (H, W) uint8 in {0, 1}.
    Returns:
        a polygon for each component, pixels that touch at a corner being one: (n, 2) float, x and y, whole
        numbers, corners only, the first not repeated at the end.
    """
    # Doubled, a pixel has borders of its own on each side: those at 2k and at 2k - 1 lie at edge k.
    doubled = np.kron(mask, np.ones((2, 2), np.uint8))
    borders, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    families: dict[int, list[np.ndarray]] = defaultdict(list)
    for number, border in enumerate(borders):
        parent = int(tree[0, number, 3])
        families[number if parent < 0 else parent].append(_drop_repeats((border[:, 0] + 1) // 2))
    outlines = [_drop_straights(_join_loops(families[number])) for number in sorted(families)]
    return [outline.astype(float) for outline in outlines]


def _drop_repeats(loop: np.ndarray) -> np.ndarray:
    return loop[(loop != np.roll(loop, 1, axis=0)).any(axis=1)]


def _drop_straights(loop: np.ndarray) -> np.ndarray:
    """Leave out the points where a closed line goes straight on."""
    loop = _drop_repeats(loop)
    steps = np.sign(np.roll(loop, -1, axis=0) - loop)
    return loop[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]


def _join_loops(loops: list[np.ndarray]) -> np.ndarray:
    """Join the outline of a component and those of its holes into one loop.

    From its leftmost, then uppermost corner each hole goes left along the pixel edges until it meets another
    loop. All between is mask, so what it meets reaches further left and is joined already.

    Args:
        loops: (n, 2) int each, x and y, a point at every pixel; the outline has the least x.
    Returns:
        (n, 2) int.
    """
    starts = [np.lexsort((loop[:, 1], loop[:, 0]))[0] for loop in loops]
    loops = [np.roll(loop, -start, axis=0) for loop, start in zip(loops, starts, strict=True)]
    loops.sort(key=lambda loop: tuple(loop[0]))
    points = np.concatenate(loops)
    firsts = np.cumsum([0, *map(len, loops)])[:-1]
    order = np.lexsort((points[:, 0], points[:, 1]))
    left_of = dict(zip(order[1:].tolist(), order[:-1].tolist(), strict=True))
    after, origin = (np.arange(len(points)) + 1).tolist(), list(range(len(points)))
    after[len(loops[0]) - 1] = 0
    for first, loop in zip(firsts[1:].tolist(), loops[1:], strict=True):
        goal = left_of[first]
        origin += [first, goal]
        back = len(after)
        after += [back + 1, after[goal]]
        after[first + len(loop) - 1], after[goal] = back, first
    walk = [0]
    while at := after[walk[-1]]:
        walk.append(at)
    return points[np.array(origin)[walk]]


@dataclass(frozen=True)
class Pictures:
    """The image files of a folder and of those below it, hidden ones left out; see `find_pictures`."""

    root: Path
    files: tuple[Path, ...]  # sorted

    def find(self, name: str, source: Path) -> Path | None:
        """Find the image that an annotation file names; None where there is none.

        The case of the suffix and how accents are encoded make no difference. Folders in `name` need not
        exist; where several images have the name, the one in the most of these folders is it, then the one
        in the split (train, valid, test) of `source`, then the one beside or below it.

        Args:
            name: as written, with or without folders, by / or \\.
            source: the annotation file, below the root.
        Raises:
            FormatError: two images fit equally well.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        found = self._by_name.get(_fold_name(parts[-1]), []) if parts else []
        ranks = [self._rank(path, parts, source.relative_to(self.root)) for path in found]
        top = max(ranks, default=None)
        best = [path for path, rank in zip(found, ranks, strict=True) if rank == top]
        if len(best) > 1:
            raise FormatError(f"{source}: image {name!r} may be {best[0]} or {best[1]}; name its folder too")
        return best[0] if best else None

    def _rank(self, path: Path, parts: tuple[str, ...], source: Path) -> tuple[int, bool, bool]:
        inner = path.relative_to(self.root)
        named = sum(inner.parts[-k:-1] == parts[-k:-1] for k in range(2, len(parts) + 1))
        is_same_split = find_split(inner.parts[:-1]) == find_split(source.parts)
        return named, is_same_split, inner.is_relative_to(source.parent)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            found[_fold_name(path.name)].append(path)
        return found


def find_pictures(root: Path) -> Pictures:
    """List the images of a folder and of those below it."""
    folders = [root, *(path for path in root.rglob("*/") if not is_hidden(path.relative_to(root)))]
    return Pictures(root, tuple(sorted(folder / name for folder in folders for name in list_images(folder))))


def is_hidden(path: Path) -> bool:
    """Whether a file or a folder on the way to it begins with a dot, or is what a Mac adds to a zip."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def find_split(names: Iterable[str]) -> str:
    """Find the split that folder or file names tell, such as "train2017": train, valid, test or ""."""
    words = [word for name in names for word in re.split("[^a-z]+", name.lower()) if word in SPLITS]
    return SPLITS[words[-1]] if words else ""


def name_parts(splits: Mapping[Path, str]) -> dict[Path, str]:
    """Name the part of each image by its split: "" for all where they are all of one.

    Validation images train too: the folds are chosen by group, which a ready-made split seldom is.
    """
    alone = len(set(splits.values())) == 1
    return {path: "" if alone else {"valid": "train"}.get(split, split) for path, split in splits.items()}


def _fold_name(name: str) -> str:
    path = PurePosixPath(normalize("NFC", name))
    return path.stem + path.suffix.lower()


def pack_masks(image_id: str, masks: np.ndarray, info: DatasetInfo) -> list[Runs]:
    """Pack (H, W, C) uint8 masks, to keep them while they are written; FormatError unless C fits `info`."""
    if masks.shape[2] != info.n_classes:
        raise FormatError(f"{image_id}: masks of {masks.shape[2]} classes; {info.name} has {info.n_classes}")
    return coco_masks.encode(np.asfortranarray(masks))


def make_loss_table(written: Iterable[Written], info: DatasetInfo) -> pd.DataFrame:
    """Compare masks with what was read back: ImageId, ClassId, pixels, lost, gained of each."""
    rows = []
    for image_id, packed, read in written:
        for kind, runs in zip(info.classes, packed, strict=True):
            mask = coco_masks.decode(runs)
            back = read.get(kind.name, np.zeros_like(mask))
            lost, gained = int((mask > back).sum()), int((back > mask).sum())
            if mask.any() or gained:
                rows.append((image_id, kind.id, int(mask.sum()), lost, gained))
    table = pd.DataFrame(rows, columns=["ImageId", "ClassId", "pixels", "lost", "gained"])
    return table.astype({"ImageId": str} | dict.fromkeys(table.columns[1:], int))
