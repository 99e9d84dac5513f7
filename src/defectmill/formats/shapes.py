"""What every annotation format is read into: an image with a mask for each of its classes; polygons.

A polygon is (n, 2) float, x then y in pixels, where (0, 0) is the upper left corner of the first pixel:
the middle of that pixel is (0.5, 0.5). Readers shift the coordinates of tools that count otherwise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_masks

from defectmill.dataset_info import Colour
from defectmill.files import DefectmillError


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

    Args:
        polygons: (n, 2) float each, x and y, n >= 3; what lies outside the image is cut off.
        shape: (H, W).
    """
    if not len(polygons):
        return np.zeros(shape, np.uint8)
    corners = [np.asarray(polygon, float).ravel().tolist() for polygon in polygons]
    runs = coco_masks.frPyObjects(corners, *shape)
    return np.ascontiguousarray(coco_masks.decode(coco_masks.merge(runs)))
