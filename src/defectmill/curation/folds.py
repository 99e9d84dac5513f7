"""Folds: the parts of the training images that are validation in turn. A group is never split."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from defectmill.curation.duplicates import find_groups, scan_images
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError
from defectmill.images import COPY_MARK, list_images

ALWAYS_TRAINS = -1  # the fold of images that are never used for validation
PSEUDO = rf"(?:^|{COPY_MARK})pseudo{COPY_MARK}"  # names of images that networks labelled, and of their copies


def assign_folds(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Assign a fold to every image, by group, so that each fold has its share of every class.

    A group that alone holds some class always trains: a model that never saw the class could not find
    it. Where this leaves fewer groups than folds, all groups are assigned to folds nevertheless.
    Images with pseudo-labels always train, and the folds of the others are those that they have without them.

    Args:
        images: image table with `group` and `classes`.
    Returns:
        (N,) int64 in 0..n_folds-1, or ALWAYS_TRAINS.
    Raises:
        DefectmillError: no image has a defect, or fewer groups than folds.
    """
    if not (images["classes"] != "").any():
        raise DefectmillError(
            f"none of {len(images)} images has a defect: there is nothing to learn; are the labels those of "
            "these images?"
        )
    if (pseudo := images["ImageId"].str.contains(PSEUDO).to_numpy()).any():
        folds = np.full(len(images), ALWAYS_TRAINS)
        folds[~pseudo] = assign_folds(images[~pseudo], n_folds, seed)
        return folds
    if (n_groups := images["group"].nunique()) < n_folds:
        way_out = f"lower labels.n_folds to {n_groups}" if n_groups > 1 else "more parts are needed"
        raise DefectmillError(f"{n_folds} folds need as many groups; there are {n_groups}: {way_out}")
    each = images.assign(classes=images["classes"].str.split()).explode("classes").dropna(subset="classes")
    alone = each[each.groupby("classes")["group"].transform("nunique") == 1]["group"]
    shared = ~images["group"].isin(alone).to_numpy()
    if images["group"][shared].nunique() < n_folds:
        shared[:] = True
    some, places = images[shared], np.flatnonzero(shared)
    # Stratified by the rarest class of an image: a rare class must reach every fold.
    counts = some["classes"].str.split().explode().value_counts()
    strata = some["classes"].map(lambda c: min(c.split(), key=lambda name: counts[name]) if c else "clean")
    if strata.value_counts().max() < n_folds:
        strata[:] = "any"  # too few images of each to stratify
    # Groups are shuffled here: where scikit-learn 1.6 (Kaggle's) does it, it takes one for another.
    groups = np.unique(some["group"], return_inverse=True)[1]
    groups = np.argsort(check_random_state(seed).permutation(groups.max() + 1))[groups]
    folds = np.full(len(images), ALWAYS_TRAINS)
    with warnings.catch_warnings():
        # A class with fewer images than folds is reported by the audit.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, validation) in enumerate(StratifiedGroupKFold(n_folds).split(some, strata, groups)):
            folds[places[validation]] = fold
    return folds


def find_relatives(folder: Path, image_ids: Sequence[str], source: Path, info: DatasetInfo) -> dict[str, str]:
    """Find new images in a group with one of a dataset; they must not be trained on: {image id: reason}.

    A test image counts where solution.csv scores it. The labels of a new image would come from networks that
    saw the training image, and would teach the fold that validates it. What groups miss is missed here too:
    see `DatasetInfo.near_duplicate`.

    Args:
        folder: of the new images; source: of the dataset; both absolute.
    Raises:
        ImageError: a file that is no image.
    """
    parts = ["test_images", "train_images"] if (source / "solution.csv").is_file() else ["train_images"]
    known = [(part, source / part / image_id) for part in parts for image_id in list_images(source / part)]
    table = pd.DataFrame([*known, *(("", folder / i) for i in image_ids)], columns=["part", "path"])
    scan = scan_images(Path(), table["path"].map(str).tolist())
    names = table["path"].map(lambda path: path.name)
    # Names join by `group_pattern` alone; equal ones are told apart by their folders.
    unique = names.mask(names.duplicated(), scan.table["ImageId"])
    table["group"] = find_groups(scan._replace(table=scan.table.assign(ImageId=unique)), info)
    found: dict[str, str] = {}
    for part in parts:
        old = table["part"] == part
        is_related = table["group"].isin(table["group"][old])
        if info.group_pattern:
            is_related |= names.isin(names[old])
        kind = part.removesuffix("_images").replace("train", "training")
        for image_id in names[is_related & (table["part"] == "")]:
            found.setdefault(image_id, f"of one group with a {kind} image")
    return found
