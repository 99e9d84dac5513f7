"""Offline augmentation: input/<dataset>-augmented, every training picture with warped copies.

python -m defectmill.datasets.augmented <dataset> [<move> ...]
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import numpy as np
import pandas as pd
from tqdm import tqdm

from defectmill.config import ROOT, ConfigError, load_card
from defectmill.datasets.competition import DatasetError
from defectmill.groups import copy_name
from defectmill.images import ImageError, list_images, read_image, write_image
from defectmill.labels import LabelError, draw_runs, read_labels, runs_by_image, write_labels
from defectmill.postprocess import masks_to_labels
from defectmill.warps import LIGHTS, MOVES

WARPS = MOVES | LIGHTS


def write_augmented(dataset: str, moves: Sequence[str], seed: int = 0) -> Path:
    """Write the folder; it appears under its name only when it is whole.

    A copy is called <move>__<picture>.png, by which `folds` keeps it with its picture. The test
    part is copied as it is.

    Args:
        moves: names of WARPS, one copy of each picture for each.
    Raises:
        DatasetError: the dataset is not prepared yet, or no such move.
    """
    source, folder = (ROOT / "input" / name for name in (dataset, f"{dataset}-augmented"))
    unknown = [move for move in moves if move not in WARPS]
    if unknown:
        raise DatasetError(f"no move {unknown[0]!r}; there are: {', '.join(WARPS)}")
    if not (source / "dataset.json").is_file():
        raise DatasetError(f"{source}: make input DATASET={dataset} comes first")
    card, work = load_card(dataset), folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    pictures = work / "train_images"
    ids, n_classes = list_images(pictures), len(card.classes)
    labels = read_labels(work / "train.csv", ids, n_classes, card.partial)
    tables, runs = [labels], runs_by_image(labels)
    for number, image_id in enumerate(tqdm(ids, unit="picture")):
        rng = np.random.default_rng([seed, number])
        image = read_image(pictures / image_id, channels=3)
        masks = draw_runs(runs[image_id], image.shape[:2], n_classes, image_id)
        for move in moves:
            compose = A.Compose([WARPS[move](image.shape[:2])])
            compose.set_random_seed(int(rng.integers(2**32)))
            done = compose(image=image, mask=masks)
            name = copy_name(move, image_id)
            write_image(pictures / name, done["image"])
            tables.append(masks_to_labels([(name, done["mask"].reshape(masks.shape))]))
    write_labels(pd.concat(tables), work / "train.csv", card.layout)
    notes = (*card.notes, f"augmented offline: {len(moves)} copies of each training picture "
             f"({', '.join(moves)})")  # fmt: skip
    written = card.model_copy(update={"name": folder.name, "partial": False, "notes": notes})
    (work / "dataset.json").write_text(json.dumps(written.model_dump(), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    return folder


if __name__ == "__main__":
    try:
        made = write_augmented(sys.argv[1], sys.argv[2:] or list(WARPS))
    except (DatasetError, ImageError, LabelError, ConfigError) as error:
        sys.exit(f"error: {error}")
    print(f'{made}: train on it with SET="dataset={made.name}"')
