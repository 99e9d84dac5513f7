"""From probabilities to masks, and from masks to defects with their sizes; settings: settings.json."""

import json

import cv2
import numpy as np

COLUMNS = ("ImageId", "ClassId", "class", "area", "top", "left", "height", "width")
COLUMNS += ("centroid_row", "centroid_column", "mean_probability")
SIZES = ("area_mm2", "length_mm", "width_mm")  # where settings["mm_per_pixel"] is a number


def cut_masks(probs, settings):
    """Turn (H, W, C) probabilities into masks, (H, W, C) uint8 in {0, 1}."""
    classes = settings["classes"]
    if settings["exclusive"]:  # of several classes at a pixel the most probable stands
        best = (probs * np.array([kind["weight"] for kind in classes], probs.dtype)).argmax(axis=2)
        probs = np.where(np.arange(len(classes)) == best[:, :, None], probs, 0)
    masks = np.stack([cut_mask(probs[:, :, c], kind) for c, kind in enumerate(classes)], 2)
    if settings["exclusive"] and any(kind["fill_holes"] for kind in classes):
        masks &= (masks.sum(axis=2, keepdims=True) < 2) | (probs > 0)  # a defect in a hole of another stays
    return masks.astype(np.uint8)


def cut_mask(probs, kind):
    """Cut (H, W) probabilities of one class: (H, W) bool, the components that are large and sure enough."""
    above = probs > choose_threshold(probs, kind)
    if kind["fill_holes"]:  # background that does not reach the border
        _, outside = cv2.connectedComponents(
            np.pad(~above, 1, constant_values=True).astype(np.uint8), connectivity=4
        )
        above = (outside != outside[0, 0])[1:-1, 1:-1]
    n, components = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    peaks = np.zeros(n, probs.dtype)
    np.maximum.at(peaks, components[above], probs[above])
    areas = np.bincount(components[above], minlength=n)
    keep = (areas >= kind["minimum_area"]) & (peaks >= kind["high_threshold"])
    keep[0] = False
    return keep[components]


def choose_threshold(probs, kind):
    """Give the class's threshold, or that of the largest expected Dice here; 1 where that is low."""
    if not kind["expected_dice"]:
        return kind["threshold"]
    levels = len(kind["calibration"])
    pixels = np.bincount(np.rint(probs * (levels - 1)).astype(int).ravel(), minlength=levels)[::-1]
    sure = np.cumsum(pixels * np.array(kind["calibration"])[::-1])
    expected = 2 * sure / np.maximum(np.cumsum(pixels) + sure[-1], 1)
    best = int(expected.argmax())
    return max(levels - 1.5 - best, 0) / (levels - 1) if expected[best] >= kind["expected_dice"] else 1.0


def list_defects(name, masks, probs, settings):
    """List the connected components of each class's mask, largest first: dicts of COLUMNS (and SIZES)."""
    rows, mm = [], settings["mm_per_pixel"]
    for channel, kind in enumerate(settings["classes"]):
        mask = np.ascontiguousarray(masks[:, :, channel])
        n, components, boxes, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
        sums = np.bincount(components.ravel(), probs[:, :, channel].ravel(), n)
        for number in sorted(range(1, n), key=lambda i: -boxes[i, cv2.CC_STAT_AREA]):
            left, top, width, height, area = boxes[number].tolist()
            column, row = centres[number].tolist()
            values = (name, channel + 1, kind["name"], area, top, left, height, width, row, column)
            defect = dict(zip(COLUMNS, (*values, float(sums[number] / area)), strict=True))
            if mm:
                cut = components[top : top + height, left : left + width] == number
                length, thick = measure(cut.astype(np.uint8))
                defect |= dict(zip(SIZES, (area * mm**2, length * mm, thick * mm), strict=True))
            rows.append(defect)
    return rows


def measure(component):
    """Give length and width, in pixels, of one component, (h, w) uint8 in {0, 1}.

    Width: diameter of the largest circle in it. Length: the longer side of its minimum-area rectangle, or, of
    a bent or branched crack, half of its outline without the ends.
    """
    fine = np.pad(np.kron(component, np.ones((2, 2), np.uint8)), 1)  # in it every width is even
    width = float(cv2.distanceTransform(fine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())
    outline = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    longer = max(cv2.minAreaRect(outline)[1]) + 1
    return max(longer, cv2.arcLength(outline, True) / 2 + 2 - width, width), width


def is_ng(defect, rules):
    """Whether a size of the defect reaches the limit of its class, or its class has no rule."""
    limits = rules.get(defect["class"])
    return limits is None or any(defect[size] >= limit for size, limit in limits.items())


def read_region(path, shape):
    """Read the region of interest, (H, W) uint8, 1 inside: a picture, or polygons [[[x, y], ...], ...]."""
    if path.suffix == ".json":
        region = np.zeros(shape, np.uint8)
        for polygon in json.loads(path.read_text("utf-8")):
            cv2.fillPoly(region, [np.round(np.array(polygon, float)).astype(np.int32)], (1,))
    else:
        region = (cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)
    if region.shape != tuple(shape):
        raise ValueError(f"the region of interest has {region.shape} pixels, the picture {tuple(shape)}")
    return region
