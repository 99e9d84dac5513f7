"""What a production line asks of an inspection: a region of interest, sizes in millimetres, OK or NG.

`export/templates` does the same without this package; `tests/export` compares the two to the byte.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import nearest
from defectmill.images import read_image
from defectmill.settings import LineSettings

SIZES = ("area_mm2", "length_mm", "width_mm")
FARTHEST = 1e6  # pixels from the corner of a picture
EXAMPLE = "[[[x, y], [x, y], [x, y]], ...]"


def check_line(run: Experiment) -> None:
    """Raise ConfigError where the line's settings cannot be used, with what to do."""
    names = [kind.name for kind in run.info.classes]
    for name, limits in run.line.ok_ng.items():
        if name not in names:
            raise ConfigError(f"setting 'line.ok_ng': no class {name!r}{nearest(name, names)}")
        if in_mm := sorted(limits.keys() & set(SIZES)):
            _require_scale(run.line, f"setting 'line.ok_ng.{name}.{in_mm[0]}'")
    if run.line.roi:
        path = files.ROOT / run.line.roi
        _ = _read_polygons(path) if path.suffix == ".json" else read_image(path)


def _require_scale(line: LineSettings, what: str) -> None:
    if line.mm_per_pixel is None:
        raise ConfigError(f"{what}: say MM_PER_PIXEL=<number>, or set line.mm_per_pixel")


def restrict(probs: np.ndarray, line: LineSettings) -> np.ndarray:
    """Set probabilities or masks, (H, W, C), outside the region of interest to 0: nothing there is a defect.

    ConfigError: the region is of another size.
    """
    if not line.roi:
        return probs
    return probs * read_region(files.ROOT / line.roi, (probs.shape[0], probs.shape[1]))[:, :, None]


@lru_cache(4)
def read_region(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a region of interest: (H, W) uint8, 1 inside.

    Args:
        path: a picture, black outside; or a .json file of polygons, each a list of points (x, y) in pixels
            from the top left, whose outlines belong to them.
        shape: height and width of the pictures.
    Raises:
        DefectmillError: no such file, no polygons, nothing inside, or a picture of another size.
    """
    if path.suffix == ".json":
        region = np.zeros(shape, np.uint8)
        for polygon in _read_polygons(path):
            cv2.fillPoly(region, [polygon], (1,))  # each for itself: where two overlap is inside, too
    else:
        region = (read_image(path)[:, :, 0] > 0).astype(np.uint8)
    if region.shape != shape:
        told = f"{region.shape[0]} x {region.shape[1]} pixels, the pictures {shape[0]} x {shape[1]}"
        raise ConfigError(f"{path}: the region of interest has {told}: draw it on one of them")
    if not region.any():
        raise ConfigError(f"{path}: no pixel of pictures of {shape[0]} x {shape[1]} lies in the region")
    return region


def _read_polygons(path: Path) -> list[np.ndarray]:
    try:
        polygons = [np.round(np.array(polygon, float)) for polygon in json.loads(files.read_text(path))]
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: not polygons ({error}); {EXAMPLE} is wanted") from error
    for polygon in polygons:
        if polygon.ndim != 2 or polygon.shape[0] < 3 or polygon.shape[1] != 2:
            raise ConfigError(f"{path}: a polygon of shape {polygon.shape}; {EXAMPLE} is wanted")
        if not (np.abs(polygon) < FARTHEST).all():
            raise ConfigError(f"{path}: a point at {polygon.max():g}, which is in no picture")
    return [polygon.astype(np.int32) for polygon in polygons]


def measure(component: np.ndarray) -> tuple[float, float]:
    """Measure length and width of one connected component, (h, w) uint8 in {0, 1}, in pixels.

    The width is the diameter of the largest circle that fits in, which is the crack width of the standards
    and does not grow where a crack bends, as that of the minimum-area rectangle does. The length is the
    longer side of that rectangle or, if larger, half of the outline without its ends: that of a bent or
    branched crack. A circle counts its own pixels: one pixel is 1 long and 1 wide.
    """
    fine = np.pad(np.kron(component, np.ones((2, 2), np.uint8)), 1)  # in it every width is even
    width = float(cv2.distanceTransform(fine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())
    outlines, _ = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longer = max(cv2.minAreaRect(outlines[0])[1]) + 1
    return max(longer, cv2.arcLength(outlines[0], True) / 2 + 2 - width, width), width


def add_sizes(defects: pd.DataFrame, components: np.ndarray, mm: float) -> pd.DataFrame:
    """Add SIZES, at `mm` millimetres a pixel, to a table of defects.

    Its index is their numbers in `components`, (H, W) int32; it has area, top, left, height and width.
    """
    boxes = defects[["top", "left", "height", "width"]].itertuples()
    cut = ((components[t : t + h, x : x + w] == n).astype(np.uint8) for n, t, x, h, w in boxes)
    length, width = np.array([measure(one) for one in cut], float).reshape(-1, 2).T * mm
    return defects.assign(area_mm2=defects["area"] * mm**2, length_mm=length, width_mm=width)


def judge(pictures: pd.DataFrame, defects: Iterable[Mapping[str, Any]], line: LineSettings) -> pd.DataFrame:
    """Add the column ok_ng to a picture table, where there are rules.

    NG is a picture with a defect, a row of `defects`, of which one size reaches the limit of its class or
    whose class has no rule; and one that cannot be read. Skipped files are neither.
    """
    if not line.ok_ng:
        return pictures
    ng = {defect["ImageId"] for defect in defects if is_ng(defect, line.ok_ng)}
    seen = pictures["verdict"].map({"unreadable": "NG", "skipped": ""}).fillna("OK")
    return pictures.assign(ok_ng=seen.mask(pictures["ImageId"].isin(ng), "NG"))


def is_ng(defect: Mapping[str, Any], rules: Mapping[str, Mapping[Any, float]]) -> bool:
    """Whether a defect, a row of the table, makes its picture NG; see `judge`."""
    limits = rules.get(defect["class"])
    return limits is None or any(defect[size] >= limit for size, limit in limits.items())
