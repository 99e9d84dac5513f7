"""Inference: probability maps at an image's own resolution, one image at a time."""

import functools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tensorflow.errors import ResourceExhaustedError

from defectmill.config import Experiment
from defectmill.files import DefectmillError
from defectmill.images import ImageError, read_image, resize_image
from defectmill.labels import draw_runs, require_shape, runs_by_image
from defectmill.prediction.postprocess import Maps, Pairs
from defectmill.prediction.tiles import blend_tiles, shown_shape, split_batches, split_tiles

FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}
BATCH = 4  # tiles predicted at once


class PredictionError(DefectmillError):
    """Probabilities that are no numbers; no mask may be made of them."""


class MapStore:
    """Probability maps of many images, 8 bits a value and compressed: a map of 6 MB takes tens of kB.

    Iterating gives (image id, (H, W, C) float32), rounded to 1/255, as often as wanted.
    """

    def __init__(self, maps: Maps = ()):
        self._packed: dict[str, tuple[tuple[int, ...], bytes]] = {}
        self.add(maps)

    def add(self, maps: Maps) -> None:
        """Take more maps."""
        for image_id, probs in maps:
            self._packed[image_id] = probs.shape, zlib.compress(np.rint(probs * 255).astype(np.uint8), 1)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for image_id, (shape, packed) in self._packed.items():
            grey = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)
            yield image_id, grey.astype(np.float32) / 255


def pair_with_truth(maps: Maps, labels: pd.DataFrame, n_classes: int) -> Pairs:
    """Yield each map beside its true masks, both (H, W, C)."""
    runs = runs_by_image(labels)
    for image_id, probs in maps:
        yield probs, draw_runs(runs[image_id], probs.shape[:2], n_classes, image_id)


def check_shapes(maps: Maps, images: pd.DataFrame) -> Maps:
    """Pass maps on; DefectmillError where an image is not of the size that its image table says."""
    shapes = images.set_index("ImageId")[["height", "width"]]
    for image_id, probs in maps:
        require_shape(image_id, probs.shape[:2], tuple(shapes.loc[image_id]))
        yield image_id, probs


def predict_probs(model: keras.Model, image: np.ndarray, run: Experiment) -> np.ndarray:
    """Predict one image, (H, W, ch) uint8, averaged over the experiment's flips and scales.

    Gives (H, W, C) float32 in [0, 1]; the background of a multiclass head is dropped. PredictionError: the
    network gives nan or inf.
    """
    height, width = shown_shape((image.shape[0], image.shape[1]), run.data)
    axes: list[tuple[int, ...]] = [(), *(FLIPS[flip] for flip in run.predict.flips)]
    maps = []
    for scale in run.predict.scales:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        shown = resize_image(image, size).astype(np.float32)
        probs = _predict(model, np.stack([np.flip(shown, a) for a in axes]), run)
        mean = np.mean([np.flip(p, a) for p, a in zip(probs, axes, strict=True)], axis=0)
        maps.append(resize_image(np.ascontiguousarray(mean, np.float32), image.shape[:2]))
    return np.clip(np.mean(maps, axis=0), 0, 1)


def predict_folder(
    networks: Sequence[tuple[Experiment, keras.Model]],
    folder: Path,
    image_ids: Iterable[str],
    skipped: dict | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (image id, probability map), the mean of all networks'; only one image is held at a time.

    `skipped` takes {image id: reason} of images that cannot be read, or are too large for the memory; without
    it they raise ImageError and MemoryError.
    PredictionError names the image and the network that gives nan or inf for it; it is never skipped.
    """
    for image_id in image_ids:
        try:
            channels = {run.data.channels for run, _ in networks}
            images = {n: read_image(folder / image_id, n, networks[0][0].info.bits) for n in channels}
        except ImageError as error:
            if skipped is None:
                raise
            skipped[image_id] = str(error)
            continue
        try:
            maps = (_predict_named(*network, images, folder / image_id) for network in networks)
            mean = functools.reduce(np.add, maps) / np.float32(len(networks))
        except (MemoryError, ResourceExhaustedError) as error:
            if skipped is None:
                raise MemoryError(f"{folder / image_id}: set predict.tiles") from error
            skipped[image_id] = "is too large for the memory: cut it, or set predict.tiles"
            continue
        yield image_id, mean


def _predict_named(run: Experiment, model: keras.Model, images: dict, path: Path) -> np.ndarray:
    try:
        return predict_probs(model, images[run.data.channels], run)
    except PredictionError as error:
        network = run.training_folder / "model.keras"
        todo = f"look at the image, or `make train EXPERIMENT={run.name}` with a lower training.learning_rate"
        raise PredictionError(f"{path}: {error}, by {network}: {todo}") from error


def _predict(model: keras.Model, images: np.ndarray, run: Experiment) -> np.ndarray:
    """(N, h, w, ch) float32 -> (N, h, w, C), whole or in tiles."""
    tiles, maps = run.predict.tiles, []
    if tiles is None:
        return _predict_batch(model, images, run)
    for image in images:
        parts, origins = split_tiles(image, tiles.shape, tiles.overlap)
        batches = (parts[b.start : b.stop] for b in split_batches(len(parts), BATCH))
        probs = (p for batch in batches for p in _predict_batch(model, batch, run))
        maps.append(blend_tiles(probs, origins, (image.shape[0], image.shape[1])))
    return np.stack(maps)


def _predict_batch(model: keras.Model, batch: np.ndarray, run: Experiment) -> np.ndarray:
    """A flexunet is shown one image twice: see `split_batches`."""
    first = int(run.model.head == "multiclass")
    alone = len(batch) == 1 and run.model.name == "flexunet"
    shown = np.repeat(batch, 2, axis=0) if alone else batch
    probs = model.predict_on_batch(shown)[: len(batch), ..., first:]
    if n_broken := int((~np.isfinite(probs)).sum()):
        raise PredictionError(f"{n_broken:,} of {probs.size:,} probabilities are nan or inf")
    return probs
