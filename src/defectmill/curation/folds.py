"""Folds: the parts of the training images that are validation in turn. A group is never split."""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from defectmill.files import DefectmillError

ALWAYS_TRAINS = -1  # the fold of images that are never used for validation


def assign_folds(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Assign a fold to every image, by group, so that each fold has its share of every class.

    A group that alone holds some class always trains: a model that never saw the class could not find
    it. Where this leaves fewer groups than folds, all groups are assigned to folds nevertheless.

    Args:
        images: image table with `group` and `classes`.
    Returns:
        (N,) int64 in 0..n_folds-1, or ALWAYS_TRAINS.
    Raises:
        DefectmillError: fewer groups than folds.
    """
    if (n_groups := images["group"].nunique()) < n_folds:
        raise DefectmillError(
            f"{n_folds} folds need as many groups; there are {n_groups}: lower labels.n_folds"
        )
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
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(images), ALWAYS_TRAINS)
    with warnings.catch_warnings():
        # A class with fewer images than folds is reported by the audit.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, validation) in enumerate(splitter.split(some, strata, some["group"])):
            folds[places[validation]] = fold
    return folds
