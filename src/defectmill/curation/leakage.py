"""Leakage: what a baseline scores that learns nothing and copies the most similar training image's masks.

What it scores above the floor, the empty submission, comes from duplicates on both sides of a split.
"""

import numpy as np
import pandas as pd

from defectmill.curation.similarity import nearest_neighbours, nearest_outside
from defectmill.images import resize_masks
from defectmill.labels import draw_runs, make_label_table, runs_by_image
from defectmill.rle import mask_to_rle
from defectmill.scores import competition_score, count_runs, micro_dice


def leak_report(
    images: pd.DataFrame, labels: pd.DataFrame, fingerprints: np.ndarray, n_folds: int, seed: int
) -> pd.DataFrame:
    """Compare a plain random split with the split by group.

    Args:
        images: image table with group and fold; labels: label table of the same images in the same order.
        fingerprints: (N, D), in the order of the image table.
    Returns:
        A row a split: split, images (each in validation once), "duplicates in training" (of how many an
        image of the same group is trained on), share (of the images), "1-NN score", floor, "1-NN Dice".
    """
    rows, plain = [], np.random.default_rng(seed).permutation(len(images)) % n_folds
    splits = {"random split": plain, "by group": images["fold"].to_numpy()}
    nearest = nearest_outside(fingerprints, np.stack([*splits.values()]))[0]
    for (name, folds), places in zip(splits.items(), nearest, strict=True):
        split = images.assign(fold=folds)
        leaking = sum(
            int(asked["group"].isin(split["group"][split["fold"] != fold]).sum())
            for fold, asked in split[folds >= 0].groupby("fold")
        )
        asked = images[folds >= 0]
        truth = labels[labels["ImageId"].isin(asked["ImageId"])]
        copied = _copy_masks(labels, images.iloc[places[folds >= 0]], asked)
        predicted = truth[["ImageId", "ClassId"]].merge(copied)
        (floor, _), _, (score, dice) = baselines(truth, predicted, asked).iloc[:, 1:].to_numpy()
        rows.append((name, len(asked), leaking, leaking / len(asked), score, floor, dice))
    columns = ["split", "images", "duplicates in training", "share", "1-NN score", "floor", "1-NN Dice"]
    return pd.DataFrame(rows, columns=columns).fillna({"1-NN Dice": 0.0})


def baselines(truth: pd.DataFrame, copied: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Score submissions that need no training.

    Args:
        truth: label table; copied: from `copy_nearest`, the same rows in the same order.
        images: image table of the same images, in the order of the truth.
    Returns:
        One row a baseline: baseline, score, micro_dice (mean over the classes in the truth, NaN without).
    """
    both, true, predicted = count_runs(truth, copied)
    area = np.broadcast_to((images["height"] * images["width"]).to_numpy()[:, None], true.shape)
    present, rows = true.sum(axis=0) > 0, []
    for name, counts in (
        ("empty submission (floor)", (true * 0, true, true * 0)),
        ("everything marked", (true, true, area)),
        ("1-nearest neighbour", (both, true, predicted)),
    ):
        dice = micro_dice(*counts)[present].mean() if present.any() else np.nan
        rows.append((name, competition_score(*counts), dice))
    return pd.DataFrame(rows, columns=["baseline", "score", "micro_dice"])


def copy_across_folds(labels: pd.DataFrame, images: pd.DataFrame, fingerprints: np.ndarray) -> pd.DataFrame:
    """Predict for each image of a fold the masks of the most similar image outside of it.

    Args:
        labels: label table; images: image table with fold (negative: only copied from).
        fingerprints: (N, D), in the order of the image table.
    Returns:
        Label table of the images that have a fold, fold by fold.
    """
    folds = images["fold"].to_numpy()
    places = nearest_outside(fingerprints, folds[None])[0][0]
    asked = np.argsort(folds, kind="stable")[np.sum(folds < 0) :]
    return _copy_masks(labels, images.iloc[places[asked]], images.iloc[asked])


def copy_nearest(
    labels: pd.DataFrame,
    known: pd.DataFrame,
    known_fingerprints: np.ndarray,
    asked: pd.DataFrame,
    asked_fingerprints: np.ndarray,
) -> pd.DataFrame:
    """Predict for each image the masks of the most similar known image.

    Args:
        labels: label table of the known images (rows of others do no harm).
        known, asked: image tables, for the shapes; a mask of another shape is resized.
        known_fingerprints, asked_fingerprints: (N, D), in their order.
    Returns:
        Label table of the asked images, a row for every class.
    """
    return _copy_masks(
        labels, known.iloc[nearest_neighbours(asked_fingerprints, known_fingerprints)[0]], asked
    )


def _copy_masks(labels: pd.DataFrame, sources: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Give each image of one image table the masks of the image in its row of the other: a label table."""
    class_ids, runs = range(1, int(labels["ClassId"].max()) + 1), runs_by_image(labels)
    columns, rows = ["ImageId", "height", "width"], []
    pairs = zip(asked[columns].to_numpy().tolist(), sources[columns].to_numpy().tolist(), strict=True)
    for (image_id, *shape), (source, *source_shape) in pairs:
        copied = runs[source]
        if shape != source_shape:
            masks = resize_masks(draw_runs(copied, source_shape, len(class_ids), source), shape)
            copied = {c: mask_to_rle(masks[:, :, c - 1]) for c in class_ids}
        rows += [(image_id, c, copied.get(c, "")) for c in class_ids]
    return make_label_table(rows)
