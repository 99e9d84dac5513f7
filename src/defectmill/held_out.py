"""HeldOutSequence: every held-out picture once, unaugmented, in batches of one shape."""

import itertools

import keras
import numpy as np
import pandas as pd

from defectmill.batches import split_batches
from defectmill.config import Experiment
from defectmill.pictures import Pictures
from defectmill.tiles import cut, tile_origins


class HeldOutSequence(keras.utils.Sequence):
    """Batches of (N, H, W, ch) float32 in 0..255 and (N, H, W, C) float32 in {0, 1}.

    Pictures of one shape are batched as of `split_batches`.

    Args:
        tile: shape of the parts that pictures are shown in, side by side; where they do not fit,
            neighbours share some pixels, which then count twice. None: pictures are shown whole.
    """

    def __init__(self, pictures: Pictures, batch_size: int, tile: tuple[int, int] | None = None):
        super().__init__()
        self.pictures, self.tile = pictures, tile
        by_shape: dict[tuple[int, int], list] = {}
        for image_id in pictures.image_ids:
            sides = pictures.shown(image_id)
            origins = tile_origins(sides, tile, 0) if tile else [(0, 0)]
            by_shape.setdefault(tile or sides, []).extend((image_id, o) for o in origins)
        batches, shapes = [], []
        for shape, parts in sorted(by_shape.items()):
            for places in split_batches(len(parts), batch_size):
                batches.append([parts[n] for n in places])
                shapes.append(shape)
        self._batches = _most_different_first(batches, shapes)

    @classmethod
    def of(
        cls, experiment: Experiment, labels: pd.DataFrame, images: pd.DataFrame
    ) -> "HeldOutSequence":
        """The experiment's Sequence over some of its training images."""
        pictures = Pictures.of(experiment, labels, images)
        return cls(pictures, experiment.training.batch_size, experiment.predict.tile)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.pictures.make_batch(self._part(*part) for part in self._batches[index])

    def _part(self, image_id: str, origin: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        pair = self.pictures.read(image_id), self.pictures.draw(image_id)
        return tuple(cut(array, origin, self.tile) for array in pair) if self.tile else pair


def _most_different_first(batches: list, shapes: list[tuple[int, int]]) -> list:
    """Put two batches first that differ in every axis that varies at all.

    Keras takes the axes that its first two batches share for fixed. Such a pair always exists:
    shapes of which any two share an axis all share the same one.
    """
    varying = [len(set(sides)) > 1 for sides in zip(*shapes, strict=True)]
    for first, second in itertools.combinations(range(len(batches)), 2):
        if [a != b for a, b in zip(shapes[first], shapes[second], strict=True)] == varying:
            rest = [b for n, b in enumerate(batches) if n not in (first, second)]
            return [batches[first], batches[second], *rest]
    return batches
