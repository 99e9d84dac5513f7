"""Offline augmentation: input/<dataset>-augmented, every training image with transformed copies."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import numpy as np
import pandas as pd
from tqdm import tqdm

from defectmill import files
from defectmill.dataset_info import load_dataset_info
from defectmill.files import DefectmillError
from defectmill.images import copy_name, list_images, read_image, write_image
from defectmill.labels import draw_runs, masks_to_labels, read_labels, runs_by_image, write_labels
from defectmill.training.augment import PIXEL_TRANSFORMS, SPATIAL_TRANSFORMS

TRANSFORMS = SPATIAL_TRANSFORMS | PIXEL_TRANSFORMS


def write_augmented(dataset: str, transforms: Sequence[str] = (), seed: int = 0) -> Path:
    """Write the folder and return it.

    A copy is called <transform>__<image>.png; by this name `curation.folds` keeps it with its original. The
    test part is copied as it is.

    Args:
        transforms: names of TRANSFORMS, one copy of each image for each; none: all of them.
    Raises:
        DefectmillError: the dataset is not prepared yet, or no such transform.
    """
    transforms = list(transforms) or list(TRANSFORMS)
    source, folder = (files.ROOT / "input" / name for name in (dataset, f"{dataset}-augmented"))
    unknown = [name for name in transforms if name not in TRANSFORMS]
    if unknown:
        raise DefectmillError(f"no transform {unknown[0]!r}; there are: {', '.join(TRANSFORMS)}")
    if not (source / "dataset.json").is_file():
        raise DefectmillError(f"{source}: make input DATASET={dataset} comes first")
    info = load_dataset_info(dataset)
    note = f"{len(transforms)} copies of each training image ({', '.join(transforms)})"
    notes = (*info.notes, f"augmented offline: {note}")
    written = info.model_copy(update={"name": folder.name, "partial": False, "notes": notes})
    with files.write_atomically(folder) as part:
        shutil.copytree(source, part)
        ids = list_images(part / "train_images")
        labels = read_labels(part / "train.csv", ids, info.n_classes, info.partial)
        tables, runs = [labels], runs_by_image(labels)
        for number, image_id in enumerate(tqdm(ids, unit="image")):
            image = read_image(part / "train_images" / image_id, channels=3)
            masks = draw_runs(runs[image_id], image.shape[:2], info.n_classes, image_id)
            rng = np.random.default_rng([seed, number])
            for transform in transforms:
                compose = A.Compose([TRANSFORMS[transform](image.shape[:2])])
                compose.set_random_seed(int(rng.integers(2**32)))
                done = compose(image=image, mask=masks)
                name = copy_name(transform, image_id)
                write_image(part / "train_images" / name, done["image"])
                tables.append(masks_to_labels([(name, done["mask"].reshape(masks.shape))]))
        write_labels(pd.concat(tables), part / "train.csv", info.layout)
        (part / "dataset.json").write_text(json.dumps(written.model_dump(), indent=1) + "\n")
    return folder
