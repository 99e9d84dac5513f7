"""Augmentation by name: single transforms and pipelines of them, for an image and its masks together."""

import threading
from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np

from defectmill.config import ConfigError

Shape = tuple[int, int]
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


def _surface(shape: Shape) -> list:
    turn = A.Affine(rotate=(-20, 20), scale=(0.78, 1.28), **{**REFLECT, "p": 0.9})
    # A quarter turn would lay an oblong crop across the one that is returned.
    quarters = [A.D4(p=1.0)] if shape[0] == shape[1] else _flips(shape)
    light = A.RandomBrightnessContrast(0.1, (-0.3, 0.4), p=0.8)
    return [turn, *quarters, light, A.RandomGamma((70, 140), p=0.5)]


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
        # Absent classes stay absent: transforming their empty channels would be half of the work.
        present = np.flatnonzero(masks.any(axis=(0, 1)))
        kept = masks[:, :, present] if len(present) else masks[:, :, :1]
        done = self._own.compose(image=image, mask=kept)
        transformed = np.zeros((*self._shape, masks.shape[2]), np.uint8)
        if len(present):
            transformed[:, :, present] = done["mask"].reshape(*self._shape, -1)
        return done["image"].reshape(*self._shape, -1), transformed
