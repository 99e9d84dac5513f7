"""A tiny competition folder, drawn: pictures of several sizes, none square, none twice.

Each class is a dark bar of its own grey level on textured ground, so that a network can learn it.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.dataset_info import DatasetInfo, DefectClass
from defectmill.images import write_image
from defectmill.labels import masks_to_labels, write_labels

EXPERIMENT = """
dataset: fake
labels: {n_folds: 2}
data: {mode: crop, shape: [16, 32]}
model: {widths: [4, 8], up_widths: [4]}
training: {epochs: 1, steps: 2, batch_size: 4}
"""
SHAPES = ((37, 53), (37, 53), (41, 29), (37, 67))
COLOURS = ((250, 200, 40), (60, 200, 120), (70, 150, 255), (240, 80, 160))


def make_info(name: str = "fake", n_classes: int = 2, layout: str = "2019") -> DatasetInfo:
    """Describe the fake dataset."""
    kinds = tuple(DefectClass(id=c, name=f"bar {c}", colour=COLOURS[c - 1]) for c in range(1, n_classes + 1))
    return DatasetInfo(name=name, title="Drawn bars", classes=kinds, layout=layout)


def draw_picture(
    shape: tuple[int, int], n_classes: int, present: set[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture: (H, W, 1) uint8 and its masks (H, W, n_classes) uint8 in {0, 1}."""
    height, width = shape
    image = rng.normal(170, 12, shape)
    masks = np.zeros((*shape, n_classes), np.uint8)
    band = height // n_classes
    for class_id in present:
        top = (class_id - 1) * band + int(rng.integers(band - 6))
        left = int(rng.integers(width - 14))
        box = np.s_[top : top + 5, left : left + 12]
        masks[(*box, class_id - 1)] = 1
        image[box] = 20 + 40 * class_id
    return np.clip(image, 0, 255).astype(np.uint8)[:, :, None], masks


def write_fake_competition(
    folder: Path,
    n_train: int = 12,
    n_test: int = 4,
    n_classes: int = 2,
    layout: str = "2019",
    seed: int = 0,
    solution: bool = True,
) -> DatasetInfo:
    """Write input/<dataset> as an adapter would; the same arguments write the same bytes.

    Picture n lacks every defect where n % (n_classes + 1) is 0, else holds class n % (n_classes
    + 1), and every seventh holds all classes.

    Args:
        folder: becomes the competition folder; its name is the dataset's.
        layout: of train.csv and sample_submission.csv, "2019" or "current".
        solution: write solution.csv too (always in the 2019 layout, clean images included).
    Returns:
        The description, as written to dataset.json.
    """
    info, rng = make_info(folder.name, n_classes, layout), np.random.default_rng(seed)
    tables = {}
    for part, first, n in (("train", 0, n_train), ("test", n_train, n_test)):
        (folder / f"{part}_images").mkdir(parents=True)
        masks = []
        for number in range(first, first + n):
            kind = number % (n_classes + 1)
            present = set(range(1, n_classes + 1)) if number % 7 == 6 else {kind} - {0}
            shape = SHAPES[number % len(SHAPES)]
            image, drawn = draw_picture(shape, n_classes, present, rng)
            image_id = f"bar_{number:03}.png"
            write_image(folder / f"{part}_images" / image_id, image)
            masks.append((image_id, drawn))
        tables[part] = masks_to_labels(masks)
    write_labels(tables["train"], folder / "train.csv", layout)
    if solution:
        write_labels(tables["test"], folder / "solution.csv", "2019")
    ids = tables["test"]["ImageId"].drop_duplicates()
    if layout == "2019":
        asked = tables["test"].assign(EncodedPixels="1 1")
        write_labels(asked, folder / "sample_submission.csv", layout)
    else:
        # As Kaggle has it now: one row an image, class 0.
        asked = pd.DataFrame({"ImageId": ids, "EncodedPixels": "1 1961", "ClassId": 0})
        asked.to_csv(folder / "sample_submission.csv", index=False, lineterminator="\n")
    (folder / "dataset.json").write_text(json.dumps(info.model_dump(), indent=1) + "\n")
    return info
