"""Named augmentation pipelines: image and masks move together, in one call.

A pipeline is a pure function of (image, masks, seed).
"""

import threading
from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np

from defectmill.config import ConfigError
from defectmill.warps import LIGHTS, MOVES


def _nothing(shape: tuple[int, int]) -> list:
    return []


def _flips(shape: tuple[int, int]) -> list:
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _steel(shape: tuple[int, int]) -> list:
    return [*_flips(shape), _light(0.2, 0.08)]


def _surface(shape: tuple[int, int]) -> list:
    turn = A.Affine(
        rotate=(-20, 20),
        scale=(0.78, 1.28),  # exp(+-0.25)
        border_mode=cv2.BORDER_REFLECT_101,
        p=0.9,
    )
    # A quarter turn would lay an oblong window across the one that goes out.
    quarters = [A.D4(p=1.0)] if shape[0] == shape[1] else _flips(shape)
    return [turn, *quarters, _light(0.3, 0.1), A.RandomGamma((70, 140), p=0.5)]


def _flexunet(shape: tuple[int, int]) -> list:
    moves, lights = ([make(shape) for make in warps.values()] for warps in (MOVES, LIGHTS))
    return [A.OneOf(moves, p=0.8), A.OneOf(lights, p=0.5)]


def _light(contrast: float, brightness: float) -> A.BasicTransform:
    return A.RandomBrightnessContrast(
        brightness_limit=brightness, contrast_limit=(-contrast, contrast + 0.1), p=0.8
    )


# name: (transforms, margin). The window that comes in is `margin` times the one that goes out,
# so that a rotation never shows its border.
PIPELINES: dict[str, tuple[Callable[[tuple[int, int]], list], float]] = {
    "none": (_nothing, 1.0),
    "flips": (_flips, 1.0),
    "steel": (_steel, 1.0),
    "surface": (_surface, 1.5),
    "flexunet": (_flexunet, 1.0),
}


class Augmenter:
    """One named pipeline.

    Attributes:
        margin: how much larger than `shape` the incoming window should be.
    Raises:
        ConfigError: no pipeline of that name.
    """

    def __init__(self, name: str, shape: tuple[int, int]):
        if name not in PIPELINES:
            raise ConfigError(f"no augmentation {name!r}; there are: {', '.join(PIPELINES)}")
        self._transforms, self.margin = PIPELINES[name]
        self._shape = shape
        self._own = threading.local()  # a Compose holds its random state: one a thread

    def __call__(
        self, image: np.ndarray, masks: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Warp both alike; light changes touch the image only.

        Args:
            image: (h, w, ch) uint8.
            masks: (h, w, C) uint8 in {0, 1}.
        Returns:
            the same, of the augmenter's shape.
        """
        if not hasattr(self._own, "compose"):
            crop = A.CenterCrop(*self._shape)
            self._own.compose = A.Compose([*self._transforms(self._shape), crop])
        self._own.compose.set_random_seed(seed)
        # Absent classes stay absent: warping their empty channels would be half of the work.
        present = np.flatnonzero(masks.any(axis=(0, 1)))
        kept = masks[:, :, present] if len(present) else masks[:, :, :1]
        done = self._own.compose(image=image, mask=kept)
        warped = np.zeros((*self._shape, masks.shape[2]), np.uint8)
        if len(present):
            warped[:, :, present] = done["mask"].reshape(*self._shape, -1)
        return done["image"].reshape(*self._shape, -1), warped
