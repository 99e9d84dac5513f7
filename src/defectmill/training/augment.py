"""Augmentation of an image and its masks together: transforms, pipelines of them by name, mixing of crops.

A crop is larger than what is shown of it by the margin of its pipeline; the middle is what counts.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np

from defectmill.config import ConfigError

Shape = tuple[int, int]
Pair = tuple[np.ndarray, np.ndarray]  # image and masks
FEATHER = 6  # pixels over which a pasted defect fades out
TRIES = 8  # places tried for one
ALIKE = 2.0  # by which factor its new ground may differ from the old in brightness and roughness
REFLECT = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}


def _elastic(shape: Shape) -> A.BasicTransform:
    sigma = min(shape) / 16
    # Noise smoothed by sigma has a spread of 1 / (2 sqrt(pi) sigma): this moves a pixel by some 40th of the
    # shorter side.
    return A.ElasticTransform(alpha=0.09 * min(shape) * sigma, sigma=sigma, **REFLECT)


# Each takes the (height, width) of the image and always does what it is called.
SPATIAL_TRANSFORMS: dict[str, Callable[[Shape], A.BasicTransform]] = {
    "horizontal-flip": lambda shape: A.HorizontalFlip(p=1.0),
    "vertical-flip": lambda shape: A.VerticalFlip(p=1.0),
    "rotation": lambda shape: A.Affine(rotate=(-180, 180), **REFLECT),
    "elastic": _elastic,
    "distortion": lambda shape: A.GridDistortion(distort_limit=(-0.3, 0.3), **REFLECT),
    "shrink": lambda shape: A.Affine(scale=(0.6, 0.9), **REFLECT),
    "shear": lambda shape: A.Affine(shear=(-15, 15), **REFLECT),
    "barrel": lambda shape: A.OpticalDistortion(distort_limit=(0.2, 0.5), **REFLECT),
    "pincushion": lambda shape: A.OpticalDistortion(distort_limit=(-0.3, -0.1), **REFLECT),
}
# These change the image only.
PIXEL_TRANSFORMS: dict[str, Callable[[Shape], A.BasicTransform]] = {
    "sharpening": lambda shape: A.Sharpen(p=1.0),
    "brightening": lambda shape: A.RandomBrightnessContrast((-0.15, 0.25), 0.0, p=1.0),
}


def _flips(shape: Shape) -> list:
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _turn(shape: Shape, degrees: int) -> list:
    turn = A.Affine(rotate=(-degrees, degrees), scale=(0.78, 1.28), **{**REFLECT, "p": 0.9})
    # A quarter turn would lay an oblong crop across the one that is returned.
    return [turn, *([A.D4(p=1.0)] if shape[0] == shape[1] else _flips(shape))]


def _surface(shape: Shape) -> list:
    light = A.RandomBrightnessContrast(0.1, (-0.3, 0.4), p=0.8)
    return [*_turn(shape, 20), light, A.RandomGamma((70, 140), p=0.5)]


def _strong(shape: Shape) -> list:
    sigma = min(shape) / 16
    warps = [
        A.Perspective(scale=(0.02, 0.06), **{**REFLECT, "p": 0.3}),
        # A third of what `elastic` moves, so that thin defects stay whole.
        A.ElasticTransform(alpha=0.03 * min(shape) * sigma, sigma=sigma, **{**REFLECT, "p": 0.3}),
    ]
    # A blowhole of a few pixels must outlive them.
    blur, noise = A.GaussianBlur(sigma_limit=(0.3, 0.8), p=0.2), A.GaussNoise(std_range=(0.005, 0.02), p=0.3)
    return [*warps, *_surface(shape), blur, noise]


def _crack(shape: Shape) -> list:
    light = [
        A.ColorJitter(
            brightness=(0.8, 1.2), contrast=(0.8, 1.25), saturation=(0.7, 1.3), hue=(-0.02, 0.02), p=0.8
        ),
        A.PlasmaShadow(shadow_intensity_range=(0.1, 0.3), plasma_size=max(shape), p=0.3),
        A.RandomGamma((75, 130), p=0.5),
    ]
    return [*_turn(shape, 45), *light, A.GaussianBlur(sigma_limit=(0.3, 0.9), p=0.2)]


def _flexunet(shape: Shape) -> list:
    spatial, pixel = (
        [make(shape) for make in group.values()] for group in (SPATIAL_TRANSFORMS, PIXEL_TRANSFORMS)
    )
    return [A.OneOf(spatial, p=0.8), A.OneOf(pixel, p=0.5)]


# name: (transforms for a shape, margin).
PIPELINES: dict[str, tuple[Callable[[Shape], list], float]] = {
    "none": (lambda shape: [], 1.0),
    "flips": (_flips, 1.0),
    "steel": (lambda shape: [*_flips(shape), A.RandomBrightnessContrast(0.08, (-0.2, 0.3), p=0.8)], 1.0),
    "surface": (_surface, 1.5),
    "strong": (_strong, 1.5),
    "crack": (_crack, 1.5),
    "flexunet": (_flexunet, 1.0),
}


class Augmenter:
    """One named pipeline, a pure function of (image, masks, seed).

    Attributes:
        margin: how many times larger than `shape` the crop that it is given should be, so that a rotation
            has something to show in the corners; what it lacks is reflected.
    Raises:
        ConfigError: no pipeline of that name.
    """

    def __init__(self, name: str, shape: Shape):
        if name not in PIPELINES:
            raise ConfigError(f"no augmentation {name!r}; there are: {', '.join(PIPELINES)}")
        self._transforms, self.margin = PIPELINES[name]
        self._shape = shape
        self._own = threading.local()  # a Compose holds its random state: one a thread

    def __call__(self, image: np.ndarray, masks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Transform an image, (h, w, ch) uint8, and its masks, (h, w, C) uint8 in {0, 1}.

        Returns:
            the same, of the augmenter's shape.
        """
        if not hasattr(self._own, "compose"):
            crop = A.CenterCrop(*self._shape)
            self._own.compose = A.Compose([*self._transforms(self._shape), crop])
        self._own.compose.set_random_seed(seed)
        # Absent classes stay absent: transforming their empty channels would be half of the work. Rows
        # first: NumPy is slow over both axes at once.
        present = np.flatnonzero(masks.max(axis=0).any(axis=0))
        transformed = np.zeros((*self._shape, masks.shape[2]), np.uint8)
        if not len(present):
            done = self._own.compose(image=image)
        else:
            done = self._own.compose(image=image, mask=masks[:, :, present])
            transformed[:, :, present] = done["mask"].reshape(*self._shape, -1)
        return done["image"].reshape(*self._shape, -1), transformed


def mix_rectangle(crop: Pair, other: Pair, shape: Shape, rng: np.random.Generator) -> Pair:
    """Replace a rectangle of a crop by that of another one: CutMix (Yun et al. 2019, arXiv:1905.04899).

    Its area is drawn uniformly from 0 to all that is shown, its centre uniformly; what leaves that is
    cut off.

    Args:
        crop, other: image, (h, w, ch) uint8, and masks, (h, w, C) uint8, of one size.
        shape: (height, width) of the middle that is shown.
    Returns:
        image and masks, new arrays.
    """
    length = np.sqrt(rng.random()) * np.array(shape)
    ends = np.clip(rng.random(2) * shape + np.outer((-0.5, 0.5), length), 0, shape)
    (top, left), (bottom, right) = np.round(ends + (np.array(crop[0].shape[:2]) - shape) / 2).astype(int)
    mixed = crop[0].copy(), crop[1].copy()
    for array, its in zip(mixed, other, strict=True):
        array[top:bottom, left:right] = its[top:bottom, left:right]
    return mixed


class Cutting(NamedTuple):
    """A defect cut out of a crop.

    Attributes:
        image: (h, w, ch) float32 in 0..255.
        masks: (h, w, C) uint8 in {0, 1}, of this defect only.
        alpha: (h, w) float32 in 0..1, the opacity at which it is pasted.
        cut: for rows and columns, whether its first and last one stood at the crop's border.
    """

    image: np.ndarray
    masks: np.ndarray
    alpha: np.ndarray
    cut: list[tuple[bool, bool]]


def cut_defect(crop: Pair, channel: int, rng: np.random.Generator) -> Cutting | None:
    """Cut out a random defect of a class, turned by a random one of the eight symmetries of the square.

    It is a connected component, drawn by area, with all that is labelled within `2 * FEATHER` pixels of it.
    Around it, opacity falls as a Gaussian, to 0 beyond `FEATHER` pixels.

    Args:
        crop: image, (h, w, ch) uint8, and masks, (h, w, C) uint8 in {0, 1}.
        channel: of the class. None is returned where the crop shows nothing of it.
    """
    turns, step = int(rng.integers(4)), int(rng.choice([-1, 1]))
    image, masks = (np.ascontiguousarray(np.rot90(array, turns)[:, ::step]) for array in crop)
    pixels = np.argwhere(masks[:, :, channel])
    if not len(pixels):
        return None
    row, column = pixels[rng.integers(len(pixels))].tolist()
    zone = cv2.dilate(masks.max(axis=2), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * FEATHER + 1,) * 2))
    cv2.floodFill(zone, None, (column, row), 2)
    left, top, width, height = cv2.boundingRect((zone == 2).astype(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    cut = [(top == 0, top + height == len(zone)), (left == 0, left + width == zone.shape[1])]
    inside = (zone[box] == 2).astype(np.uint8)
    masks = masks[box] * inside[:, :, None]
    distance = cv2.distanceTransform(1 - masks.max(axis=2), cv2.DIST_L2, 3)
    alpha = np.exp(-(distance**2) / (2 * (FEATHER / 3) ** 2)) * inside
    return Cutting(image[box].astype(np.float32), masks, alpha, cut)


def paste_defect(crop: Pair, cutting: Cutting, shape: Shape, rng: np.random.Generator) -> Pair:
    """Paste a defect into a crop at random: copy-paste (Ghiasi et al. 2021, arXiv:2012.07177).

    It is multiplied, colour by colour, so that what surrounds it is as bright as the new ground. `TRIES`
    places are tried; the first is taken where all of this holds, and without one the crop stays as it is:
    - most of it is shown, and where the border of its own crop cut it, this crop's border does too;
    - no labelled pixel is touched, and it covers at most a quarter of what is shown;
    - around it, neither the brightness nor the standard deviation of the old and the new ground differ by
      more than the factor `ALIKE`, so that it lies on no rim and no other texture; and it is not overexposed.

    Args:
        crop: image, (h, w, ch) uint8, and masks, (h, w, C) uint8 in {0, 1}.
        shape: (height, width) of the middle that is shown.
    Returns:
        image and masks; new arrays where something was pasted.
    """
    image, masks = crop
    sides, size = np.array(image.shape[:2]), np.array(cutting.alpha.shape)
    start = (sides - shape) // 2
    low, high = start - size // 4, start + shape - size + size // 4
    for axis, (first, last) in enumerate(cutting.cut):
        room = int(size[axis]) // 4
        if first or last:
            low[axis] = sides[axis] - size[axis] if last else -room
            high[axis] = 0 if first else sides[axis] - size[axis] + room
    if (low > high).any():
        return crop
    defect = cutting.masks.max(axis=2) > 0
    most = shape[0] * shape[1] / 4
    for corner in rng.integers(low, high + 1, (TRIES, 2)):
        begin, end = np.maximum(corner, 0), np.minimum(corner + size, sides)
        here, part = _box(begin, end), _box(begin - corner, end - corner)
        shown = _box(np.maximum(start - corner, 0), np.maximum(start + shape - corner, 0))
        alpha = cutting.alpha[part][:, :, None]
        around = (alpha[:, :, 0] > 0) & ~defect[part]
        area = defect[part].sum()
        if not 0 < area <= min(2 * defect[shown].sum(), most) or masks[here][alpha[:, :, 0] > 0].any():
            continue
        gain = _match(cutting.image[part][around], image[here][around])
        if gain is None:
            continue
        lit = cutting.image[part] * gain
        if (lit[defect[part]] > 255).mean() < 0.01:
            image, masks = image.copy(), masks.copy()
            image[here] = (image[here] + alpha * (lit.clip(0, 255) - image[here])).round()
            masks[here] |= cutting.masks[part]
            break
    return image, masks


def _box(begin: np.ndarray, end: np.ndarray) -> tuple[slice, ...]:
    return tuple(map(slice, begin.tolist(), end.tolist()))


def _match(old: np.ndarray, new: np.ndarray) -> np.ndarray | None:
    """By how much to multiply the (n, ch) pixels around a defect, for each colour; None: they do not fit."""
    if not len(old):
        return None
    gain = (new.mean(axis=0) + 1) / (old.mean(axis=0) + 1)
    ratio = (new.std(axis=0) + 1) / (gain * old.std(axis=0) + 1)
    return gain if (np.abs(np.log([gain, ratio])) < np.log(ALIKE)).all() else None
