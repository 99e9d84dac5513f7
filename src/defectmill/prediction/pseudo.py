"""Pseudo-labels (Lee 2013): images without labels join a dataset where all fold networks agree on them."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import DatasetInfo, load_dataset_info
from defectmill.images import ImageError, copy_name, list_images, read_image, write_image
from defectmill.labels import masks_to_labels, read_labels, write_labels
from defectmill.prediction.postprocess import make_masks
from defectmill.prediction.thresholds import read_thresholds
from defectmill.products.manifest import check_predictions
from defectmill.scores import count_pixels, dice_from_counts

# (folder, image ids, dataset's folder, dataset) -> {image id: why it must be left out}
FindRelatives = Callable[[Path, Sequence[str], Path, DatasetInfo], dict[str, str]]


def write_pseudo(run: Experiment, images: str, agreement: float, find_relatives: FindRelatives) -> Path:
    """Write input/<dataset>-pseudo, print how many images were taken, and return the folder.

    It is the original dataset with images called pseudo__<stem>.png, which by this name always train.

    Args:
        agreement: Dice that the masks of all networks reach, pair by pair and class by class.
        find_relatives: `curation.folds.find_relatives`.
    Raises:
        DefectmillError: see `check_pseudo`; or a network is missing, or no image is taken.
    """
    folder, source = check_pseudo(run, images, agreement)
    # They load TensorFlow, which looking at data and a refusal must not wait for.
    from defectmill.models import load_networks
    from defectmill.prediction.inference import predict_folder

    networks = [one for name in run.fold_networks for one in load_networks(run, name)]
    info, ids, left_out = load_dataset_info(source.name), list_images(folder), dict[str, str]()
    for image_id in ids:
        try:
            read_image(folder / image_id)
        except ImageError:
            left_out[image_id] = "cannot be read"
    left_out |= find_relatives(folder, [i for i in ids if i not in left_out], source, info)
    asked = [i for i in ids if i not in left_out]
    each = zip(*(predict_folder([one], folder, asked) for one in networks), strict=True)
    shown = tqdm(each, total=len(asked), unit="image", file=sys.stdout, disable=None)
    labels = masks_to_labels(keep_agreed(shown, run, agreement))
    taken = labels["ImageId"].unique()
    why = "".join(f"; {n} {reason}" for reason, n in Counter(left_out.values()).items())
    told = f"{len(taken)} taken, {len(asked) - len(taken)} not agreed, {len(left_out)} left out{why}"
    if not len(taken):
        raise files.DefectmillError(f"IMAGES={images}: {told}; give other images, or a lower AGREEMENT")
    names = {i: copy_name("pseudo", name) for i, name in files.name_masks(ids).items()}
    notes = (*info.notes, f"pseudo-labels of {run.name} at AGREEMENT={agreement}: {told}")
    target = source.with_name(f"{source.name}-pseudo")
    written = info.model_copy(update={"name": target.name, "partial": False, "notes": notes})
    with files.write_atomically(target) as part:
        shutil.copytree(source, part)
        pictures, table = part / "train_images", part / "train.csv"
        known = read_labels(table, list_images(pictures), info.n_classes, info.partial)
        for image_id in taken:
            write_image(pictures / names[image_id], read_image(folder / image_id, 3))
        new = labels.assign(ImageId=labels["ImageId"].map(names))
        write_labels(pd.concat([known, new]), table, info.layout)
        (part / "dataset.json").write_text(json.dumps(written.model_dump(), indent=1) + "\n")
    print(f"{len(ids)} images: {told}")
    return target


def check_pseudo(run: Experiment, images: str, agreement: float) -> tuple[Path, Path]:
    """Give the folder of images and that of the original dataset; ConfigError says why it cannot be done."""
    folder = (files.ROOT / Path(images).expanduser()).resolve()
    source = run.input.with_name(run.dataset.removesuffix("-pseudo"))
    tests = [(path / "test_images").resolve() for path in (source, run.input)]
    is_scored = folder in tests and (source / "solution.csv").is_file()
    alone = f"{run.name}: one network agrees with no other; train it with labels.validation_fold=every"
    for is_wrong, why in (
        (not images, "say IMAGES=<folder of images without labels>"),
        (not 0 <= agreement <= 1, f"AGREEMENT={agreement}: give a Dice, 0 to 1"),
        (len(run.load_parts()) * len(run.fold_networks) < 2, alone),
        (not (source / "dataset.json").is_file(), f"{source}: make input DATASET={source.name} comes first"),
        (is_scored, f"IMAGES={images}: no run may train on images that it is scored by, in solution.csv"),
        (not list_images(folder), f"IMAGES={images}: holds no image; subfolders are not read"),
    ):
        if is_wrong:
            raise ConfigError(why)
    run.require(run.output / "thresholds.json", "predict")
    check_predictions(run)
    return folder, source


def keep_agreed(maps: Iterable[tuple], run: Experiment, agreement: float) -> Iterator[tuple[str, np.ndarray]]:
    """Give (image id, (H, W, C) masks of the mean probabilities) of each image that all networks agree on.

    `maps` gives for each image, from each network, (image id, (H, W, C) probabilities).
    """
    thresholds = read_thresholds(run.output / "thresholds.json")
    for found in maps:
        probs = np.stack([one for _, one in found])
        *masks, mean = (make_masks(p, thresholds, run.info.exclusive) for p in (*probs, probs.mean(axis=0)))
        dice = [dice_from_counts(*count_pixels(*pair)).min() for pair in combinations(masks, 2)]
        if min(dice) >= agreement:
            yield found[0][0], mean
