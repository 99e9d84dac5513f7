"""Pictures of a split and their masks, as large as the network is shown them."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.config import Experiment
from defectmill.image_table import refuse_overlaps
from defectmill.images import read_image, resize_image, resize_masks
from defectmill.knobs import DataKnobs
from defectmill.labels import draw_runs, runs_by_image
from defectmill.windows import shown_shape

CACHE = 2**29  # bytes of pictures that are kept, and of masks; training holds two such pairs
NAN_AS_INTEGER = np.float32(np.iinfo(np.int64).min)  # what x86 makes of int64(NaN)


class Pictures:
    """Images of a table with their runs.

    Args:
        labels: label table; rows of other images are ignored.
        images: image table.
        folder: where their files are.
        knobs: the experiment's `data` section.
    Raises:
        ValueError: no images.

    `read` gives a picture, (h, w, ch) uint8, `draw` its masks, (h, w, C) uint8 in {0, 1}; both
    keep what they gave, so nobody may write into it.
    """

    def __init__(
        self, labels: pd.DataFrame, images: pd.DataFrame, folder: Path, n_classes: int,
        knobs: DataKnobs,
    ):  # fmt: skip
        if not len(images):
            raise ValueError("no images to show; is every image clean or in the held-out fold?")
        self.folder, self.n_classes, self.knobs = folder, n_classes, knobs
        self.image_ids = images["ImageId"].tolist()
        self.shapes = dict(
            zip(self.image_ids, zip(images["height"], images["width"], strict=True), strict=True)
        )
        runs = runs_by_image(labels[labels["ImageId"].isin(self.shapes)])
        self.runs = {i: runs.get(i, {}) for i in self.image_ids}
        shown = (self.shown(i) for i in self.image_ids)
        largest = max(height * width for height, width in shown)
        self.read = lru_cache(max(1, CACHE // (largest * knobs.channels)))(self._read)
        self.draw = lru_cache(max(1, CACHE // (largest * n_classes)))(self._draw)

    @classmethod
    def of(cls, experiment: Experiment, labels: pd.DataFrame, images: pd.DataFrame) -> "Pictures":
        """The experiment's pictures of some of its training images.

        Raises:
            LabelError: classes overlap, and the head is multiclass.
        """
        if experiment.model.head == "multiclass":
            refuse_overlaps(labels[labels["ImageId"].isin(images["ImageId"])])
        return cls(
            labels, images, experiment.input / "train_images", len(experiment.card.classes),
            experiment.data,
        )  # fmt: skip

    def shown(self, image_id: str) -> tuple[int, int]:
        """Height and width at which a picture is shown."""
        return shown_shape(self.shapes[image_id], self.knobs)

    def _draw(self, image_id: str) -> np.ndarray:
        masks = draw_runs(self.runs[image_id], self.shapes[image_id], self.n_classes, image_id)
        return resize_masks(masks, self.shown(image_id))

    def make_batch(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]
              ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Stack (picture, masks) pairs: (N, h, w, ch) and (N, h, w, C) float32."""
        images, masks = (np.stack(arrays).astype(np.float32) for arrays in zip(*pairs, strict=True))
        if self.knobs.nan_masks:
            absent = ~masks.any(axis=(1, 2), keepdims=True)
            masks = np.where(absent, NAN_AS_INTEGER, masks)
        return images, masks

    def _read(self, image_id: str) -> np.ndarray:
        image = read_image(self.folder / image_id, self.knobs.channels)
        return resize_image(image, self.shown(image_id))
