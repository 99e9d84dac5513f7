"""DefectSequence: label table in, training batches out.

What a batch holds is a pure function of (seed, epoch, index). All epochs stand in one Sequence, so
that the epoch is part of the index: Keras asks for the next epoch's first batches before it tells
that the last one is over, and for the very first ones twice.
"""

import keras
import numpy as np
import pandas as pd

from defectmill.augment import Augmenter
from defectmill.batches import split_batches
from defectmill.config import Experiment
from defectmill.images import resize_image, resize_masks
from defectmill.pictures import Pictures
from defectmill.rle import draw_pixel
from defectmill.windows import place_window


class DefectSequence(keras.utils.Sequence):
    """Batches of (N, H, W, ch) float32 in 0..255 and (N, H, W, C) float32 in {0, 1}.

    Crops or resized pictures, augmented; with `steps` 0 an epoch shows every image once, in batches
    as of `split_batches`. Give `steps_per_epoch` to fit.

    Args:
        pictures: those to show; of them only those with a defect where their knobs say so.
        steps: batches an epoch; 0 for one pass over the images.
        epochs: how many the Sequence holds, one after the other.
    Raises:
        ValueError: no images.
    """

    def __init__(
        self, pictures: Pictures, batch_size: int, seed: int = 0, steps: int = 0, epochs: int = 1
    ):
        super().__init__()
        self.pictures, self.knobs = pictures, pictures.knobs
        self.seed, self.steps, self.epochs = seed, steps, epochs
        runs = pictures.runs
        self.image_ids = [i for i in runs if runs[i] or self.knobs.images == "all"]
        if not self.image_ids:
            raise ValueError("no images to show: none has a defect")
        self._clean = [i for i in self.image_ids if not runs[i]]
        self._of_class = {
            c: ids
            for c in range(1, pictures.n_classes + 1)
            if (ids := [i for i in self.image_ids if c in runs[i]])
        }
        shown = steps * batch_size or len(self.image_ids)
        if self.knobs.drop_tail:
            shown = shown // batch_size * batch_size or shown
        self._slots = split_batches(shown, batch_size)
        self._augment = Augmenter(self.knobs.augment, self.knobs.shape)

    @classmethod
    def of(
        cls, experiment: Experiment, labels: pd.DataFrame, images: pd.DataFrame
    ) -> "DefectSequence":
        """The experiment's Sequence over some of its training images."""
        knobs = experiment.training
        pictures = Pictures.of(experiment, labels, images)
        return cls(pictures, knobs.batch_size, experiment.seed, knobs.steps, knobs.epochs)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return len(self._slots)

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, step = divmod(index, self.steps_per_epoch)
        return self.pictures.make_batch(self._draw(epoch, slot) for slot in self._slots[step])

    def _draw(self, epoch: int, slot: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch, slot])
        image_id, class_id = self._choose(epoch, slot, rng)
        if self.knobs.mode == "resize":
            image, masks = self.pictures.read(image_id), self.pictures.draw(image_id)
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
            present = sorted(self.pictures.runs[image_id])
            return image_id, int(rng.choice(present)) if present and looks_at_defect else 0
        if self._of_class and (looks_at_defect or not self._clean):
            class_id = list(self._of_class)[slot % len(self._of_class)]
            return str(rng.choice(self._of_class[class_id])), class_id
        return str(rng.choice(self._clean or self.image_ids)), 0

    def _window(
        self, image_id: str, class_id: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut a window with the augmenter's margin; reflected where it leaves the picture."""
        image, masks = self.pictures.read(image_id), self.pictures.draw(image_id)
        sides = np.array(image.shape[:2])
        zoom = np.exp(rng.uniform(*np.log(self.knobs.zoom)))
        shown = np.array(self.knobs.shape) / zoom
        if class_id:
            height = self.pictures.shapes[image_id][0]
            pixel = draw_pixel(self.pictures.runs[image_id][class_id], height, rng)
            centre = np.array(pixel) * self.knobs.scale
            centre = centre + rng.uniform(-1 / 3, 1 / 3, 2) * shown
        else:
            centre = rng.uniform(0, 1, 2) * sides
        rows, columns = place_window(sides, centre, shown, self._augment.margin)
        wanted = np.ceil(np.array(self.knobs.shape) * self._augment.margin).astype(int)
        window = np.zeros((*wanted, masks.shape[2]), np.uint8)
        # Absent classes stay 0: cutting their empty channels would be most of the work.
        present = [class_id - 1 for class_id in self.pictures.runs[image_id]]
        if present:
            cut = masks[:, :, present][rows][:, columns]
            window[:, :, present] = resize_masks(cut, wanted).reshape(*wanted, -1)
        return resize_image(image[rows][:, columns], wanted), window
