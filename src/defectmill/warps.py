"""Single augmentations by name; image and mask move together, light changes the image only."""

from collections.abc import Callable

import albumentations as A
import cv2

REFLECT = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}


def _elastic(shape: tuple[int, int]) -> A.BasicTransform:
    sigma = min(shape) / 16
    # Noise smoothed by sigma has a spread of 1 / (2 sqrt(pi) sigma): this moves a pixel by some
    # 40th of the shorter side.
    return A.ElasticTransform(alpha=0.09 * min(shape) * sigma, sigma=sigma, **REFLECT)


# Each takes the (height, width) of the picture and always does what it is called.
MOVES: dict[str, Callable[[tuple[int, int]], A.BasicTransform]] = {
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
LIGHTS: dict[str, Callable[[tuple[int, int]], A.BasicTransform]] = {
    "sharpening": lambda shape: A.Sharpen(p=1.0),
    "brightening": lambda shape: A.RandomBrightnessContrast(
        brightness_limit=(-0.15, 0.25), contrast_limit=0.0, p=1.0
    ),
}
