"""DefectSequence: label table in, batches out.

What a batch holds is a pure function of (seed, epoch, index). All epochs stand in one Sequence, so
that the epoch is part of the index: Keras asks for the next epoch's first batches before it tells
that the last one is over, and for the very first ones twice.
"""

import itertools
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from defectmill.augment import Augmenter
from defectmill.config import Experiment
from defectmill.image_table import refuse_overlaps
from defectmill.images import read_image, resize_image, resize_masks
from defectmill.knobs import DataKnobs
from defectmill.labels import draw_runs, runs_by_image
from defectmill.rle import draw_pixel
from defectmill.windows import place_window, shown_shape

CACHED_IMAGES = 2000
NAN_AS_INTEGER = np.float32(np.iinfo(np.int64).min)  # what x86 makes of int64(NaN)


class DefectSequence(keras.utils.Sequence):
    """Batches of (N, H, W, ch) float32 in 0..255 and (N, H, W, C) float32 in {0, 1}.

    Training draws crops or resized pictures, augmented; with `steps` 0 an epoch shows every image
    once; give `steps_per_epoch` to fit. Otherwise (training=False) every image comes once, whole,
    unaugmented, in batches of one size. The last partial batch is kept.

    Args:
        labels: label table; rows of other images are ignored.
        images: image table; the images to show.
        folder: where their files are.
        knobs: the experiment's `data` section.
        steps: batches an epoch when training; 0 for one pass over the images.
        epochs: how many the Sequence holds, one after the other.
    Raises:
        ValueError: no images.
    """

    def __init__(
        self, labels: pd.DataFrame, images: pd.DataFrame, folder: Path, n_classes: int,
        knobs: DataKnobs, batch_size: int, seed: int = 0, steps: int = 0, training: bool = True,
        epochs: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.folder, self.knobs, self.n_classes = folder, knobs, n_classes
        self.batch_size, self.seed, self.steps, self.training = batch_size, seed, steps, training
        self.epochs = epochs
        if training and knobs.images == "defects":
            images = images[images["classes"] != ""]
        if not len(images):
            raise ValueError("no images to show; is every image clean or in the held-out fold?")
        self.image_ids = images["ImageId"].tolist()
        self.shapes = dict(
            zip(self.image_ids, zip(images["height"], images["width"], strict=True), strict=True)
        )
        runs = runs_by_image(labels[labels["ImageId"].isin(self.shapes)])
        self.runs = {i: runs.get(i, {}) for i in self.image_ids}
        self._clean = [i for i in self.image_ids if not self.runs[i]]
        self._of_class = {
            c: ids
            for c in range(1, n_classes + 1)
            if (ids := [i for i in self.image_ids if c in self.runs[i]])
        }
        self._augment = Augmenter(knobs.augment if training else "none", knobs.shape)
        self._read = lru_cache(CACHED_IMAGES)(self._read_scaled)
        self._batches = self._same_size_batches()

    @classmethod
    def of(
        cls, experiment: Experiment, labels: pd.DataFrame, images: pd.DataFrame, training: bool
    ) -> "DefectSequence":
        """The experiment's Sequence over some of its training images.

        Raises:
            LabelError: classes overlap, and the head is multiclass.
        """
        knobs = experiment.training
        if experiment.model.head == "multiclass":
            refuse_overlaps(labels[labels["ImageId"].isin(images["ImageId"])])
        return cls(
            labels, images, experiment.input / "train_images", len(experiment.card.classes),
            experiment.data, knobs.batch_size, experiment.seed, knobs.steps if training else 0,
            training, knobs.epochs if training else 1,
        )  # fmt: skip

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        if not self.training:
            return len(self._batches)
        if self.knobs.drop_tail:
            return self.steps or max(1, len(self.image_ids) // self.batch_size)
        return self.steps or -(-len(self.image_ids) // self.batch_size)

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, step = divmod(index, self.steps_per_epoch)
        if not self.training:
            pairs = [self._whole(image_id) for image_id in self._batches[step]]
        else:
            pairs = [self._draw(epoch, slot) for slot in self._slots(step)]
        images, masks = (np.stack(arrays).astype(np.float32) for arrays in zip(*pairs, strict=True))
        if self.knobs.nan_masks:
            absent = ~masks.any(axis=(1, 2), keepdims=True)
            masks = np.where(absent, NAN_AS_INTEGER, masks)
        return images, masks

    def _slots(self, step: int) -> range:
        first = step * self.batch_size
        end = first + self.batch_size
        return range(first, end if self.steps else min(end, len(self.image_ids)))

    def _draw(self, epoch: int, slot: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch, slot])
        image_id, class_id = self._choose(epoch, slot, rng)
        if self.knobs.mode == "resize":
            image, masks = self._whole(image_id)
        else:
            image, masks = self._window(image_id, class_id, rng)
        return self._augment(image, masks, int(rng.integers(2**32)))

    def _choose(self, epoch: int, slot: int, rng: np.random.Generator) -> tuple[str, int]:
        """Pick an image, and the class to look at (0: anywhere)."""
        looks_at_defect = rng.random() < self.knobs.defect_share
        if not self.steps:
            shuffled = 0 if self.knobs.repeat_order else epoch
            order = np.random.default_rng([self.seed, shuffled]).permutation(len(self.image_ids))
            image_id = self.image_ids[order[slot]]
            present = sorted(self.runs[image_id])
            return image_id, int(rng.choice(present)) if present and looks_at_defect else 0
        if self._of_class and (looks_at_defect or not self._clean):
            class_id = list(self._of_class)[slot % len(self._of_class)]
            return str(rng.choice(self._of_class[class_id])), class_id
        return str(rng.choice(self._clean or self.image_ids)), 0

    def _window(
        self, image_id: str, class_id: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut a window with the augmenter's margin; reflected where it leaves the picture."""
        image, masks = self._read(image_id), self._masks(image_id)
        sides = np.array(image.shape[:2])
        zoom = np.exp(rng.uniform(*np.log(self.knobs.zoom)))
        shown = np.array(self.knobs.shape) / zoom
        if class_id:
            pixel = draw_pixel(self.runs[image_id][class_id], self.shapes[image_id][0], rng)
            centre = np.array(pixel) * self.knobs.scale
            centre = centre + rng.uniform(-1 / 3, 1 / 3, 2) * shown
        else:
            centre = rng.uniform(0, 1, 2) * sides
        rows, columns = place_window(sides, centre, shown, self._augment.margin)
        wanted = np.ceil(np.array(self.knobs.shape) * self._augment.margin).astype(int)
        window = np.zeros((*wanted, self.n_classes), np.uint8)
        # Absent classes stay 0: cutting their empty channels would be most of the work.
        present = [class_id - 1 for class_id in self.runs[image_id]]
        if present:
            cut = masks[:, :, present][rows][:, columns]
            window[:, :, present] = resize_masks(cut, wanted).reshape(*wanted, -1)
        return resize_image(image[rows][:, columns], wanted), window

    def _whole(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        return self._read(image_id), self._masks(image_id)

    def _read_scaled(self, image_id: str) -> np.ndarray:
        image = read_image(self.folder / image_id, self.knobs.channels)
        return resize_image(image, shown_shape(image.shape[:2], self.knobs))

    def _masks(self, image_id: str) -> np.ndarray:
        shape = self.shapes[image_id]
        masks = draw_runs(self.runs[image_id], shape, self.n_classes, image_id)
        return resize_masks(masks, shown_shape(shape, self.knobs))

    def _same_size_batches(self) -> list[list[str]]:
        by_shape: dict[tuple[int, int], list[str]] = {}
        for image_id in self.image_ids:
            shape = shown_shape(self.shapes[image_id], self.knobs)
            by_shape.setdefault(shape, []).append(image_id)
        batches = [
            ids[first : first + self.batch_size]
            for _, ids in sorted(by_shape.items())
            for first in range(0, len(ids), self.batch_size)
        ]
        return _most_different_first(
            batches, [shown_shape(self.shapes[b[0]], self.knobs) for b in batches]
        )


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
