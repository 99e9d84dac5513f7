"""Inference: probability maps at a picture's own resolution, one picture at a time."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from defectmill.batches import split_batches
from defectmill.config import Experiment
from defectmill.images import ImageError, read_image, resize_image
from defectmill.tiles import blend, split
from defectmill.windows import shown_shape

FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}
BATCH = 4  # tiles predicted at once


class MapStore:
    """Probability maps of many pictures, kept small: 8 bits each, compressed.

    Most of a picture is background, so a map of 6 MB takes some tens of kB. Iterating gives
    (image id, (H, W, C) float32), rounded to 1/255, as often as wanted.
    """

    def __init__(self, maps: Iterable[tuple[str, np.ndarray]]):
        self._packed = {
            image_id: (probs.shape, zlib.compress(np.rint(probs * 255).astype(np.uint8), 1))
            for image_id, probs in maps
        }

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for image_id, (shape, packed) in self._packed.items():
            grey = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)
            yield image_id, grey.astype(np.float32) / 255


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
        mirrored = np.stack([np.flip(shown, a) for a in axes])
        probs = _predict(model, mirrored, experiment)
        mean = np.mean([np.flip(p, a) for p, a in zip(probs, axes, strict=True)], axis=0)
        maps.append(resize_image(np.ascontiguousarray(mean, np.float32), image.shape[:2]))
    return np.clip(np.mean(maps, axis=0), 0, 1)


def predict_folder(
    model: keras.Model, folder: Path, image_ids: Iterable[str], experiment: Experiment,
    skipped: dict[str, str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:  # fmt: skip
    """Yield (image id, probability map); only one map is held at a time.

    Args:
        skipped: takes the image ids that cannot be read, with the reason; they yield nothing.
    Raises:
        ImageError: a picture that cannot be read, without `skipped`.
    """
    for image_id in image_ids:
        try:
            image = read_image(folder / image_id, experiment.data.channels)
        except ImageError as error:
            if skipped is None:
                raise
            skipped[image_id] = str(error)
            continue
        yield image_id, predict_probs(model, image, experiment)


def _predict(model: keras.Model, pictures: np.ndarray, experiment: Experiment) -> np.ndarray:
    """(N, h, w, ch) float32 -> (N, h, w, C), whole or in tiles."""
    tile, overlap = experiment.predict.tile, experiment.predict.overlap
    if tile is None:
        return _predict_batch(model, pictures, experiment)
    maps = []
    for picture in pictures:
        parts, origins = split(picture, tile, overlap)
        batches = (parts[b.start : b.stop] for b in split_batches(len(parts), BATCH))
        probs = (p for batch in batches for p in _predict_batch(model, batch, experiment))
        maps.append(blend(probs, origins, picture.shape[:2]))
    return np.stack(maps)


def _predict_batch(model: keras.Model, batch: np.ndarray, experiment: Experiment) -> np.ndarray:
    """A flexunet is shown one picture twice: see `split_batches`."""
    first = int(experiment.model.head == "multiclass")
    alone = len(batch) == 1 and experiment.model.name == "flexunet"
    shown = np.repeat(batch, 2, axis=0) if alone else batch
    return model.predict_on_batch(shown)[: len(batch), ..., first:]
