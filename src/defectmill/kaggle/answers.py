"""The answers of a run: written as a whole submission before the first image, and again after the last."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill import files, labels, submission
from defectmill.dataset_info import DatasetInfo


class Answers:
    """Masks of test images as runs; what was not answered counts as clean.

    Args:
        folder: of the competition, with test_images and, where there is one, sample_submission.csv.
    Raises:
        SubmissionError: a sample that asks for an image which test_images lacks, or for none.
    """

    def __init__(self, folder: Path, info: DatasetInfo):
        self.folder, self.info, self.sample = folder, info, folder / "sample_submission.csv"
        self.image_ids: Sequence[str] = submission.asked_images(self.sample)
        self._shapes = dict.fromkeys(self.image_ids, (1, 1))  # of those answered; a clean one fits any
        self._runs: dict[tuple[str, int], str] = {}

    @property
    def table(self) -> pd.DataFrame:
        """Label table of every image that is asked for."""
        pairs = ((i, kind.id) for i in self.image_ids for kind in self.info.classes)
        return labels.make_label_table((*pair, self._runs.get(pair, "")) for pair in pairs)

    def add(self, image_id: str, masks: np.ndarray) -> None:
        """Take the masks of one image, (H, W, C) uint8 in {0, 1}."""
        found = labels.masks_to_labels([(image_id, masks)])
        runs = zip(found["ImageId"], found["ClassId"], found["EncodedPixels"], strict=True)
        self._runs |= {(i, c): rle for i, c, rle in runs}
        self._shapes[image_id] = masks.shape[:2]

    def write(self, csv: Path) -> pd.DataFrame:
        """Write the submission, checked by Kaggle's rules before it takes its name, and give its label table.

        SubmissionError: what Kaggle would refuse; then what stood under the name still stands.
        """
        table = self.table
        shapes = [(image_id, *shape) for image_id, shape in self._shapes.items()]
        with files.write_atomically(csv) as draft:
            submission.write_submission(table, draft, self.sample)
            images = pd.DataFrame(shapes, columns=["ImageId", "height", "width"])
            submission.check_submission(draft, self.sample, images)
        return table
