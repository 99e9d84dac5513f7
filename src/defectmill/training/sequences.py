"""Sequences: label table in, batches out. What a batch holds is a pure function of (seed, epoch, index)."""

import itertools
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from defectmill.config import Experiment
from defectmill.files import DefectmillError
from defectmill.images import read_image, resize_image, resize_masks
from defectmill.labels import draw_runs, refuse_overlaps, require_shape, runs_by_image
from defectmill.prediction.tiles import Shape, cut_tile, place_crop, shown_shape, split_batches, tile_origins
from defectmill.rle import draw_pixel
from defectmill.settings import CapstoneData, CropData, DataSettings
from defectmill.split import Split
from defectmill.training.augment import Augmenter, Pair, cut_defect, mix_rectangle, paste_defect

CACHE = 2**29  # bytes of images that are kept, and of masks; training holds two such pairs
NAN_AS_INTEGER = np.float32(np.iinfo(np.int64).min)  # what x86 makes of int64(NaN)


class Pictures:
    """Images of an image table and their masks, at the size at which the network is shown them.

    `read` returns an image, (h, w, ch) uint8, `draw` its masks, (h, w, C) uint8 in {0, 1}. Both keep what
    they return, so nobody may write into it. `bits`: see `images.read_image`. DefectmillError: no images.

    Args:
        labels: label table; rows of other images are ignored.
        images: image table; one without a `group` is a part of its own.
    """

    bits = 0

    def __init__(
        self, labels: pd.DataFrame, images: pd.DataFrame, folder: Path, n_classes: int, data: DataSettings
    ):
        if not len(images):
            raise DefectmillError("no images to show; is every image clean or in the validation fold?")
        self.folder, self.n_classes, self.data = folder, n_classes, data
        rows = images[["ImageId", "height", "width"]].itertuples(index=False)
        self.shapes: dict[str, Shape] = {image_id: (height, width) for image_id, height, width in rows}
        runs = runs_by_image(labels[labels["ImageId"].isin(self.shapes)])
        self.runs = {image_id: runs.get(image_id, {}) for image_id in self.shapes}
        groups = images.get("group", images["ImageId"]).astype(object)
        self.parts = groups.where(groups.notna(), images["ImageId"]).set_axis(images["ImageId"]).to_dict()
        largest = max(height * width for height, width in map(self.shown, self.shapes))
        self.read = lru_cache(max(1, CACHE // (largest * data.channels)))(self._read)
        self.draw = lru_cache(max(1, CACHE // (largest * n_classes)))(self._draw)

    def shown(self, image_id: str) -> Shape:
        return shown_shape(self.shapes[image_id], self.data)

    def _read(self, image_id: str) -> np.ndarray:
        image = read_image(self.folder / image_id, self.data.channels, self.bits)
        require_shape(self.folder / image_id, image.shape[:2], self.shapes[image_id])
        return resize_image(image, self.shown(image_id))

    def _draw(self, image_id: str) -> np.ndarray:
        masks = draw_runs(self.runs[image_id], self.shapes[image_id], self.n_classes, image_id)
        return resize_masks(masks, self.shown(image_id))


class DefectSequence(keras.utils.Sequence):
    """Batches of (N, H, W, ch) float32 in 0..255 and (N, H, W, C) float32 in {0, 1}.

    Crops or resized images, augmented. All epochs stand in one Sequence, so that the epoch is part of the
    index: Keras asks for the next epoch's first batches before it tells that the last one is over, and for
    the very first ones twice. Give `steps_per_epoch` to fit.

    Args:
        pictures: those to show; only those with a defect where `data.images` says so (DefectmillError: none).
        steps: batches an epoch; 0: every image once, in batches as of `split_batches`.
    """

    def __init__(self, pictures: Pictures, batch_size: int, seed: int, steps: int, epochs: int):
        super().__init__()
        self.pictures, self.data = pictures, pictures.data
        self.seed, self.steps, self.epochs = seed, steps, epochs
        self.first = 0  # the batch that it begins with: after the last one it goes on with the very first
        runs = pictures.runs
        self.image_ids = [i for i in runs if runs[i] or self.data.images == "all"]
        if not self.image_ids:
            raise DefectmillError("no images to show: none has a defect")
        self._clean = self._by_part(i for i in self.image_ids if not runs[i])
        with_class = ([i for i in self.image_ids if c in runs[i]] for c in range(1, pictures.n_classes + 1))
        self._of_class = {class_id: self._by_part(ids) for class_id, ids in enumerate(with_class, 1) if ids}
        self._turns = list(self._of_class)
        self._n = steps * batch_size or len(self.image_ids)
        self._slots = split_batches(self._n, batch_size)
        self._augment = Augmenter(self.data.augment, self.data.shape)
        # Two epochs: Keras asks for the next one's first batches before the last one's are all shown.
        self._order = lru_cache(2)(self._order)  # type: ignore[method-assign]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return len(self._slots)

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, step = divmod((index + self.first) % len(self), self.steps_per_epoch)
        return _stack(self._show(epoch, slot) for slot in self._slots[step])

    def _show(self, epoch: int, slot: int) -> Pair:
        rng = np.random.default_rng([self.seed, epoch, slot])
        if isinstance(self.data, CropData):
            pair = self._crop(self.data, epoch, slot, rng)
            if self.data.cutmix and rng.random() < self.data.cutmix:
                other = self._crop(self.data, epoch, int(rng.integers(self._n)), rng)
                pair = mix_rectangle(pair, other, self.data.shape, rng)
        else:
            image_id, _ = self._choose(epoch, slot, rng)
            pair = self.pictures.read(image_id), self.pictures.draw(image_id)
        return self._augment(*pair, int(rng.integers(2**32)))

    def _by_part(self, image_ids: Iterable[str]) -> list[list[str]]:
        """Gather images by part, where parts are what is drawn; else all together."""
        parts: dict[object, list[str]] = {}
        for image_id in image_ids:
            key = self.pictures.parts[image_id] if self.data.balance == "part" else None
            parts.setdefault(key, []).append(image_id)
        return list(parts.values())

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.image_ids))

    def _choose(self, epoch: int, slot: int, rng: np.random.Generator) -> tuple[str, int]:
        """Choose an image, and the class whose defect the crop is to show (0: anywhere)."""
        at_defect = rng.random() < self.data.defect_share
        if not self.steps:
            image_id = self.image_ids[self._order(epoch)[slot]]
            present = sorted(self.pictures.runs[image_id])
            return image_id, int(rng.choice(present)) if present and at_defect else 0
        if self._of_class and (at_defect or not self._clean):
            class_id = self._turns[slot % len(self._turns)]
            return _draw(self._of_class[class_id], rng), class_id
        return _draw(self._clean, rng), 0

    def _crop(self, data: CropData, epoch: int, slot: int, rng: np.random.Generator) -> Pair:
        """Cut the crop of a slot, and paste a defect into it as often as `data.copy_paste` says."""
        image_id, class_id = self._choose(epoch, slot, rng)
        shown = np.array(data.shape) / np.exp(rng.uniform(*np.log(data.zoom)))
        places = self._place(data, image_id, class_id, shown, rng)
        crop = self._cut(image_id, places, np.ceil(np.array(data.shape) * self._augment.margin))
        if data.copy_paste and self._turns and rng.random() < data.copy_paste:
            class_id = self._turns[slot % len(self._turns)]
            others = ([i for i in part if i != image_id] for part in self._of_class[class_id])
            if parts := [part for part in others if part]:
                donor = _draw(parts, rng)
                # Without what is reflected, which would show a defect twice.
                found = [np.unique(n) for n in self._place(data, donor, class_id, 1.5 * shown, rng)]
                sides = np.array([len(n) for n in found]) * data.shape / shown
                cutting = cut_defect(self._cut(donor, found, np.ceil(sides)), class_id - 1, rng)
                crop = paste_defect(crop, cutting, data.shape, rng) if cutting else crop
        return crop

    def _place(
        self, data: CropData, image_id: str, class_id: int, shown: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Say which rows and columns a crop holds, as `place_crop`: at a defect, or anywhere (class 0)."""
        sides = np.array(self.pictures.shown(image_id))
        if class_id:
            runs = self.pictures.runs[image_id][class_id]
            pixel = draw_pixel(runs, self.pictures.shapes[image_id][0], rng)
            centre = np.array(pixel) * data.scale + rng.uniform(-1 / 3, 1 / 3, 2) * shown
        else:
            centre = rng.uniform(0, 1, 2) * sides
        return place_crop(sides, centre, shown, self._augment.margin)

    def _cut(self, image_id: str, places: Sequence[np.ndarray], wanted: np.ndarray) -> Pair:
        """Cut rows and columns out of an image and its masks, and resize them to the shape `wanted`."""
        image, masks = self.pictures.read(image_id), self.pictures.draw(image_id)
        shape = wanted.astype(int).tolist()
        cropped = np.zeros((*shape, masks.shape[2]), np.uint8)
        # Absent classes stay 0: cutting their empty channels would be most of the work.
        for channel in (class_id - 1 for class_id in self.pictures.runs[image_id]):
            cut = _take(masks[:, :, channel : channel + 1], *places)
            cropped[:, :, channel] = resize_masks(cut, shape)[:, :, 0]
        return resize_image(_take(image, *places), shape), cropped


class CapstoneSequence(DefectSequence):
    """DefectSequence with those bugs of the Severstal capstone's generator that its `data` section names."""

    data: CapstoneData

    def __init__(self, pictures: Pictures, batch_size: int, *args):
        super().__init__(pictures, batch_size, *args)
        n = sum(map(len, self._slots))
        if self.data.drop_tail:
            self._slots = split_batches(n - n % batch_size or n, batch_size)

    def __getitem__(self, index: int) -> Pair:
        images, masks = super().__getitem__(index)
        if self.data.nan_masks:
            masks = np.where(masks.any(axis=(1, 2), keepdims=True), masks, NAN_AS_INTEGER)
        return images, masks

    def _order(self, epoch: int) -> np.ndarray:
        return super()._order(0 if self.data.repeat_order else epoch)


class ValidationSequence(keras.utils.Sequence):
    """Every image once, not augmented: (N, H, W, ch) float32 in 0..255, (N, H, W, C) float32 in {0, 1}.

    Images of one shape are batched as of `split_batches`.

    Args:
        tile: shape of the tiles in which images are shown, side by side; where they do not fit, neighbours
            share some pixels, which then count twice. None: images are shown whole.
    """

    def __init__(self, pictures: Pictures, batch_size: int, tile: Shape | None = None):
        super().__init__()
        self.pictures = pictures
        parts: dict[Shape, list[tuple[str, Shape]]] = {}
        for image_id in pictures.shapes:
            sides = pictures.shown(image_id)
            shape = tile or sides
            parts.setdefault(shape, []).extend((image_id, o) for o in tile_origins(sides, shape, 0))
        batches = [
            (shape, [parts[shape][n] for n in places])
            for shape in sorted(parts)
            for places in split_batches(len(parts[shape]), batch_size)
        ]
        self._batches = _most_different_first(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Pair:
        shape, parts = self._batches[index]
        read, draw = self.pictures.read, self.pictures.draw
        return _stack((cut_tile(read(i), at, shape), cut_tile(draw(i), at, shape)) for i, at in parts)


def make_sequences(run: Experiment, split: Split) -> tuple[DefectSequence, ValidationSequence | None]:
    """Make the Sequences of a split's training part and of its validation part, None where it has none.

    Raises:
        DefectmillError: no images train, or none validate and it is no last fit; classes overlap, and the
            head is multiclass.
    """
    if run.model.head == "multiclass":
        refuse_overlaps(split.labels)
    how = split.folder, run.info.n_classes, run.data
    training, tiles = run.training, run.predict.tiles
    kind = CapstoneSequence if run.data.mode == "capstone" else DefectSequence
    epochs = training.last_fit if run.network == "last" else training.epochs
    train = Pictures(split.labels, split.train, *how)
    train.bits = run.info.bits
    sequence = kind(train, training.batch_size, run.seed, training.steps, epochs)
    if split.validation.empty and run.network == "last":
        return sequence, None
    check = Pictures(split.labels, split.validation, *how)
    check.bits = run.info.bits
    return sequence, ValidationSequence(check, training.batch_size, tiles.shape if tiles else None)


def _draw(parts: list[list[str]], rng: np.random.Generator) -> str:
    """Draw a part, then one of its images; a choice of one leaves `rng` as it is."""
    part = parts[rng.integers(len(parts))]
    return part[rng.integers(len(part))]


def _take(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Take rows and columns as `array[rows][:, columns]`: a view where they stand side by side."""
    top, left = rows.min(), columns.min()
    part = array[top : rows.max() + 1, left : columns.max() + 1]
    if part.shape[:2] == (len(rows), len(columns)):
        return part
    return part[rows - top][:, columns - left]


def _stack(pairs: Iterable[Pair]) -> Pair:
    images, masks = (np.stack(arrays, dtype=np.float32) for arrays in zip(*pairs, strict=True))
    return images, masks


def _most_different_first(batches: list[tuple[Shape, list]]) -> list[tuple[Shape, list]]:
    """Put two batches first whose shapes differ in every axis that varies at all.

    Keras takes the axes that its first two batches share for fixed. Such a pair always exists: shapes of
    which any two share an axis all share the same one.
    """
    varying = [len(set(sides)) > 1 for sides in zip(*(shape for shape, _ in batches), strict=True)]
    for pair in itertools.combinations(batches, 2):
        if [a != b for a, b in zip(pair[0][0], pair[1][0], strict=True)] == varying:
            return [*pair, *(batch for batch in batches if batch not in pair)]
    return batches
