"""Inference: probability maps at a picture's own resolution, one picture at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from defectmill.config import Experiment
from defectmill.images import read_image, resize_image
from defectmill.windows import shown_shape

FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}


def predict_probs(model: keras.Model, image: np.ndarray, experiment: Experiment) -> np.ndarray:
    """Predict one picture, averaged over the experiment's flips and scales.

    Args:
        image: (H, W, ch) uint8.
    Returns:
        (H, W, C) float32 in [0, 1]; background of a multiclass head is dropped.
    """
    height, width = shown_shape(image.shape[:2], experiment.data)
    axes = [(), *(FLIPS[flip] for flip in experiment.predict.flips)]
    maps = []
    for scale in experiment.predict.scales:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        shown = resize_image(image, size).astype(np.float32)
        probs = model.predict_on_batch(np.stack([np.flip(shown, a) for a in axes]))
        if experiment.model.head == "multiclass":
            probs = probs[..., 1:]
        mean = np.mean([np.flip(p, a) for p, a in zip(probs, axes, strict=True)], axis=0)
        maps.append(resize_image(np.ascontiguousarray(mean, np.float32), image.shape[:2]))
    return np.clip(np.mean(maps, axis=0), 0, 1)


def predict_folder(
    model: keras.Model, folder: Path, image_ids: Iterable[str], experiment: Experiment
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (image id, probability map); only one map is held at a time."""
    for image_id in image_ids:
        image = read_image(folder / image_id, experiment.data.channels)
        yield image_id, predict_probs(model, image, experiment)
