"""Facts: how large a dataset and its defects are; what settings are planned by. Sizes are in pixels."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from defectmill.config import Experiment
from defectmill.files import DefectmillError
from defectmill.images import list_images, read_image
from defectmill.labels import find_overlaps
from defectmill.rle import rle_to_mask
from defectmill.split import Split

SAMPLED = 40  # masks of a class, and images, that are looked at
SPECK = 16  # smaller components are what a resized mask leaves of others


class ClassFacts(NamedTuple):
    """A class: groups with it; sizes of its masks, at 10, 50 and 90 % of them; median width.

    The size of a mask is the square root of the area of the component that holds its middle pixel, the
    components sorted by area; see `mask_width`.
    """

    groups: int
    small: float
    typical: float
    large: float
    width: float


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset. shape: median (height, width). colour: how much the channels differ, 0..255."""

    images: int
    defects: int  # images with a defect
    defect_groups: int
    groups: int  # that may validate: no class stands in one of them alone
    tests: int  # images of the test part
    solved: bool  # whose labels are at hand
    shape: tuple[float, float]
    colour: float
    exclusive: bool  # no pixel has two classes
    classes: tuple[ClassFacts, ...]  # those with a mask

    @property
    def area(self) -> float:
        """Pixels of a typical image."""
        return self.shape[0] * self.shape[1]

    @property
    def rarest(self) -> int:
        """Groups of the rarest class that can both train and validate; 1 where there is none."""
        return min((kind.groups for kind in self.classes if kind.groups > 1), default=1)


def read_facts(run: Experiment, split: Split) -> DatasetFacts:
    """Gather the facts of an experiment's dataset from its tables and a sample of its images.

    DefectmillError: no image has a defect.
    """
    images, labels = split.images, split.labels
    each = images.assign(class_id=images["classes"].str.split()).explode("class_id").dropna(subset="class_id")
    if each.empty:
        raise DefectmillError(f"{run.name}: no training image has a defect: there is nothing to plan for")
    groups = each.groupby("class_id")["group"].nunique()
    alone = set(each.loc[each["class_id"].map(groups) == 1, "group"])
    tests = run.input / "test_images"
    with_defect = images[images["classes"] != ""]
    height, width = images[["height", "width"]].median()
    masks = labels[labels["hasMask"]].merge(images[["ImageId", "height", "width"]], on="ImageId")
    return DatasetFacts(
        images=len(images),
        defects=len(with_defect),
        defect_groups=with_defect["group"].nunique(),
        groups=images["group"].nunique() - len(alone),
        tests=len(list_images(tests)) if tests.is_dir() else 0,
        solved=(run.input / "solution.csv").is_file(),
        shape=(float(height), float(width)),
        colour=_measure_colour(split),
        exclusive=run.info.exclusive and not find_overlaps(labels),
        classes=tuple(
            _measure_class(some, int(groups[str(class_id)])) for class_id, some in masks.groupby("ClassId")
        ),
    )


def mask_width(mask: np.ndarray) -> float:
    """Mean width of what a (H, W) uint8 mask in {0, 1} holds: of a stripe of even width exactly that.

    Pixels of such a stripe are on average a quarter of its width and a half from the nearest one outside.
    """
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(4 * depth[depth > 0].mean() - 2)


def mask_size(mask: np.ndarray) -> float:
    """Size of what a (H, W) uint8 mask in {0, 1} holds, see `ClassFacts`."""
    areas = np.sort(cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, cv2.CC_STAT_AREA])
    return float(np.sqrt(areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)]))


def _measure_class(masks: pd.DataFrame, groups: int) -> ClassFacts:
    """`masks`: rows of a label table, with height and width."""
    some = masks.sample(min(SAMPLED, len(masks)), random_state=0)
    drawn = [
        rle_to_mask(rle, (h, w))
        for rle, h, w in zip(some["EncodedPixels"], some["height"], some["width"], strict=True)
    ]
    large = [mask for mask in drawn if mask.sum() >= SPECK] or drawn
    small, typical, big = np.percentile([mask_size(mask) for mask in large], [10, 50, 90])
    return ClassFacts(
        groups, float(small), float(typical), float(big), float(np.median([*map(mask_width, large)]))
    )


def _measure_colour(split: Split) -> float:
    ids = split.images["ImageId"].sample(min(SAMPLED, len(split.images)), random_state=0)
    spreads = [np.ptp(read_image(split.folder / image_id, 3), axis=2).mean() for image_id in ids]
    return float(np.mean(spreads))
