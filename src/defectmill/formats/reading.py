"""How annotated images are read whatever the format: found, checked, drawn record by record; and shapes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from defectmill.dataset_info import Colour, explain_missing
from defectmill.formats.shapes import (
    Annotated,
    FormatError,
    Pictures,
    Runs,
    draw_instances,
    find_split,
    is_hidden,
    name_parts,
    turn_to_stored,
)
from defectmill.images import read_orientation, read_shape

HEAD = 1 << 16  # bytes that tell a format
NO_AREA = "line or point, which has no area, left out"
CUT = "mask that leaves its image, cut off at the edge"
TURNED = "orientation tag, applied: the tool showed the image upright"
UNTURNED = "orientation tag, not applied: the annotations are for the image as it is stored"
CLEAN = "an image that is listed without shapes counts as clean, though perhaps nobody looked at it"

Instance = tuple[str, list[np.ndarray | Runs]]  # class, polygons and runs
Pair = Sequence[float] | np.ndarray  # x and y


@dataclass(frozen=True)
class Job:
    """The annotations of an image.

    where: their file and the list in it, for errors. load: gives the image's (height, width) as they have it,
    if they do, their records, and issues (see `Annotated`). split: where they tell it.
    """

    where: str
    load: Callable[[], tuple[tuple[int, int] | None, Sequence[Any], dict[str, int]]]
    split: str = ""


# Gives what to draw of a record on an image of (height, width), or counts it among the issues.
Draw = Callable[[Any, tuple[int, int], dict[str, int]], Sequence[Instance]]


def place_job(jobs: dict[Path, Job], job: Job, image: Path | None, name: str, pictures: Pictures) -> None:
    """Add a job for the image found by a name; FormatError where none was found or it has a job already."""
    if image is None:
        hint = explain_missing(name, [path.name for path in pictures.files], pictures.root)
        raise FormatError(f"{job.where}: image {name!r} is not in {pictures.root}{hint}")
    if image in jobs:
        raise FormatError(f"{job.where}: {image} is annotated in {jobs[image].where} too; keep one of them")
    jobs[image] = job


def open_jobs(jobs: Mapping[Path, Job], pictures: Pictures, draw: Draw) -> Callable[[], Iterator[Annotated]]:
    """Make the reader of a source: of all images in folders that hold an annotated one."""
    homes = {image.parent for image in jobs}
    images = [image for image in pictures.files if image.parent in homes]
    inner = {image: image.relative_to(pictures.root).parts[:-1] for image in images}
    parts = name_parts({i: (i in jobs and jobs[i].split) or find_split(inner[i]) for i in images})

    def read() -> Iterator[Annotated]:
        for image in images:
            if image in jobs:
                yield _do_job(image, jobs[image], parts[image], draw)
            else:
                yield Annotated(image, read_shape(image), None, parts[image])

    return read


def note_unread(jobs: Iterable[Path], pictures: Pictures) -> tuple[str, ...]:
    """Note the folders of images that `open_jobs` leaves out."""
    homes = {image.parent for image in jobs}
    left = {str(i.parent.relative_to(pictures.root)) for i in pictures.files if i.parent not in homes}
    told = f"image files in folders without an annotated image are not read: {', '.join(sorted(left))}"
    return (told,) if left else ()


def _do_job(image: Path, job: Job, part: str, draw: Draw) -> Annotated:
    stored, orientation = read_shape(image), read_orientation(image)
    upright = stored[::-1] if orientation > 4 else stored
    with located(job.where):
        told, records, issues = job.load()
    if told not in (None, stored, upright):
        offence = f"{image.name} is {told} there, (height, width), and {stored} as a file"
        raise FormatError(f"{job.where}: {offence}")
    # labelme, CVAT and browsers turn an image by its tag before they show it.
    turn = orientation if told in (None, upright) else 1
    shape = stored if turn == 1 else upright
    issues = {**issues, TURNED: int(turn > 1), UNTURNED: int(turn != orientation)}
    instances: list[Instance] = []
    for number, record in enumerate(records):
        with located(f"{job.where}[{number}] ({image.name})"):
            instances += draw(record, shape, issues)
    with located(f"{job.where} ({image.name})"):
        masks, drawn = draw_instances(instances, shape)
    issues = {what: issues.get(what, 0) + drawn.get(what, 0) for what in (issues | drawn)}
    return Annotated(image, stored, turn_to_stored(masks, turn), part, issues)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Say in the FormatErrors of the block where they happened."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from error


def list_files(raw: Path, suffix: str) -> list[Path]:
    """List the files of a suffix in a folder and below it, sorted, without hidden ones; or take that file."""
    files = [raw] if raw.is_file() else raw.rglob("*")
    found = (path for path in files if path.suffix.lower() == suffix and path.is_file())
    return sorted(path for path in found if not is_hidden(path.relative_to(raw.parent)))


def read_head(path: Path) -> str:
    """Read as much of a text file as tells its format."""
    with path.open("rb") as file:
        return file.read(HEAD).decode("utf-8", errors="replace").lstrip("\ufeff \r\n\t")


def parse_colours(texts: Iterable[str | None]) -> tuple[Colour, ...]:
    """Read colours such as #ff8000; none at all where one is missing or written in another way."""
    found = [re.fullmatch("#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", (text or "").lower()) for text in texts]
    colours = [(int(m[1], 16), int(m[2], 16), int(m[3], 16)) for m in found if m]
    return tuple(colours) if len(colours) == len(found) else ()


def outline_box(one: Pair, other: Pair, degrees: float = 0) -> np.ndarray:
    """Outline the rectangle between opposite corners (x, y), turned clockwise about its middle: (4, 2)."""
    return _turn(np.array([one, (other[0], one[1]), other, (one[0], other[1])], float), degrees)


def outline_ellipse(centre: Pair, radii: Pair, degrees: float = 0) -> np.ndarray:
    """Outline an ellipse about (x, y), turned clockwise, by a corner for each degree: (360, 2)."""
    angles = np.radians(np.arange(360))
    return _turn(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii + centre, degrees)


def _turn(corners: np.ndarray, degrees: float) -> np.ndarray:
    if not degrees:
        return corners
    middle, angle = corners.mean(axis=0), np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return middle + (corners - middle) @ turn


def pack_patch(
    patch: np.ndarray, corner: Sequence[int], shape: tuple[int, int], issues: dict[str, int]
) -> Runs:
    """Pack a small mask whose first pixel lies at (column, row) of an image; what lies outside is cut off.

    Args:
        patch: (h, w) bool, or uint8 in {0, 1}.
        shape: (H, W) of the image.
        issues: where it is counted that something was cut off.
    """
    whole = np.zeros(shape, np.uint8, order="F")
    left, top = corner
    inside = patch[max(-top, 0) : max(shape[0] - top, 0), max(-left, 0) : max(shape[1] - left, 0)]
    whole[max(top, 0) :, max(left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    packed = coco_masks.encode(whole)
    issues[CUT] = issues.get(CUT, 0) + int(coco_masks.area(packed) != np.count_nonzero(patch))
    return packed
