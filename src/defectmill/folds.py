"""Folds: images of one group never stand on both sides of a split."""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold


def assign_folds(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Assign a fold to every image, by group, each fold with its share of every class.

    Args:
        images: image table with `group` and `classes`.
    Returns:
        (N,) int64 in 0..n_folds-1.
    Raises:
        ValueError: fewer groups than folds.
    """
    n_groups = images["group"].nunique()
    if n_groups < n_folds:
        raise ValueError(f"{n_folds} folds need as many groups; there are {n_groups}")
    # Stratified by the rarest class of an image: a rare class must reach every fold.
    counts = images["classes"].str.split().explode().value_counts()
    strata = images["classes"].map(
        lambda classes: min(classes.split(), key=lambda c: counts[c]) if classes else "clean"
    )
    if strata.value_counts().max() < n_folds:
        strata[:] = "any"  # too few of each to share out
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(images), -1)
    with warnings.catch_warnings():
        # A class with fewer images than folds is reported by the audit.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(images, strata, images["group"])):
            folds[held_out] = fold
    return folds
