"""Folds: images of one group never stand on both sides of a split.

A fold of -1 is in none: its images always train.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

ALWAYS_TRAINS = -1


def assign_folds(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Assign a fold to every image, by group, each fold with its share of every class.

    The only group of a class always trains: held out, nobody could find what was never shown. Where
    that leaves fewer groups than folds, it is held out all the same.

    Args:
        images: image table with `group` and `classes`.
    Returns:
        (N,) int64 in 0..n_folds-1, or ALWAYS_TRAINS.
    Raises:
        ValueError: fewer groups than folds.
    """
    n_groups = images["group"].nunique()
    if n_groups < n_folds:
        raise ValueError(f"{n_folds} folds need as many groups; there are {n_groups}")
    shared = ~images["group"].isin(_only_groups(images)).to_numpy()
    if images["group"][shared].nunique() < n_folds:
        shared[:] = True
    folds = np.full(len(images), ALWAYS_TRAINS)
    folds[shared] = _share_out(images[shared], n_folds, seed)
    return folds


def _only_groups(images: pd.DataFrame) -> set[int]:
    """Groups that hold a class which no other group holds."""
    each = images.assign(classes=images["classes"].str.split()).explode("classes")
    groups = each.dropna(subset="classes").groupby("classes")["group"].agg(set)
    return {group for mine in groups if len(mine) == 1 for group in mine}


def _share_out(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    # Stratified by the rarest class of an image: a rare class must reach every fold.
    counts = images["classes"].str.split().explode().value_counts()
    strata = images["classes"].map(
        lambda classes: min(classes.split(), key=lambda c: counts[c]) if classes else "clean"
    )
    if strata.value_counts().max() < n_folds:
        strata[:] = "any"  # too few of each to share out
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.zeros(len(images), int)
    with warnings.catch_warnings():
        # A class with fewer images than folds is reported by the audit.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(images, strata, images["group"])):
            folds[held_out] = fold
    return folds
