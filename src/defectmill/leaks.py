"""What leakage buys: the answer that copies the most similar training picture.

It learns nothing; whatever it scores above the floor it owes to twins on both sides of a split.
"""

import numpy as np
import pandas as pd

from defectmill.groups import find_likest
from defectmill.images import resize_masks
from defectmill.labels import COLUMNS, draw_runs, runs_by_image
from defectmill.rle import mask_to_rle
from defectmill.scores import count_runs, dice_from_counts, pooled_dice


def report_leaks(
    images: pd.DataFrame, labels: pd.DataFrame, prints: np.ndarray, n_folds: int, seed: int
) -> pd.DataFrame:
    """Compare a plain random split with ours: twins in training, and what a copier scores.

    Args:
        images: image table with group and fold. labels: label table of the same images.
        prints: (N, D) of `shots.read_shots`, in the order of the image table.
    Returns:
        A row a split: split, images (held out in turn), with a twin in training, share, copier's
        score, floor, copier's Dice (mean pooled Dice of the classes there are).
    """
    plain = np.random.default_rng(seed).permutation(len(images)) % n_folds
    rows = []
    for name, folds in (("random split", plain), ("by group", images["fold"].to_numpy())):
        leaking, copied = 0, []
        for k in range(n_folds):
            inside, outside = images[folds == k], images[folds != k]
            leaking += int(inside["group"].isin(outside["group"]).sum())
            copied.append(
                copy_nearest(labels, outside, prints[folds != k], inside, prints[folds == k])
            )
        answer = pd.concat(copied).set_index(["ImageId", "ClassId"])
        truth = labels[labels["ImageId"].isin(images["ImageId"][folds >= 0])]
        answer = answer.loc[list(zip(truth["ImageId"], truth["ClassId"], strict=True))]
        both, true, guessed = count_runs(truth, answer.reset_index())
        seen = true.sum(axis=0) > 0
        rows.append({
            "split": name, "images": len(true), "with a twin in training": leaking,
            "share": leaking / len(true),
            "copier's score": dice_from_counts(both, true, guessed).mean(),
            "floor": (true == 0).mean(),
            "copier's Dice": pooled_dice(both, true, guessed)[seen].mean() if seen.any() else 0.0,
        })  # fmt: skip
    return pd.DataFrame(rows)


def naive_answers(truth: pd.DataFrame, copied: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Score answers that know nothing.

    Args:
        truth: label table. copied: of `copy_nearest`, the same rows in the same order.
        images: image table of the same images, in the order of the truth.
    Returns:
        One row an answer: answer, score, pooled_dice (mean over the classes there are).
    """
    both, true, guessed = count_runs(truth, copied)
    area = (images["height"] * images["width"]).to_numpy()[:, None]
    seen = true.sum(axis=0) > 0
    answers = {
        "says nothing (floor)": (true * 0, true, true * 0),
        "marks everything": (true, true, np.broadcast_to(area, true.shape)),
        "copies the likest training picture": (both, true, guessed),
    }
    rows = [
        (name, dice_from_counts(*counts).mean(),
         pooled_dice(*counts)[seen].mean() if seen.any() else np.nan)
        for name, counts in answers.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["answer", "score", "pooled_dice"])


def copy_nearest(
    labels: pd.DataFrame, known: pd.DataFrame, known_prints: np.ndarray, asked: pd.DataFrame,
    asked_prints: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Answer each picture with the masks of the known picture that is most like it.

    Args:
        labels: label table of the known images (rows of others do no harm).
        known, asked: image tables, for the shapes; a mask of another shape is resized.
        known_prints, asked_prints: (N, D), in their order.
    Returns:
        Label table of the asked images, a row for every class.
    """
    n_classes = int(labels["ClassId"].max())
    runs = runs_by_image(labels)
    shapes = known[["height", "width"]].to_numpy()
    nearest, _ = find_likest(asked_prints, known_prints)
    ids = known["ImageId"].to_numpy()
    rows = []
    for (image_id, *shape), n in zip(
        asked[["ImageId", "height", "width"]].itertuples(index=False), nearest, strict=True
    ):
        copied = runs[ids[n]]
        if shape != shapes[n].tolist():
            masks = resize_masks(draw_runs(copied, tuple(shapes[n]), n_classes), tuple(shape))
            copied = {c: mask_to_rle(masks[:, :, c - 1]) for c in range(1, n_classes + 1)}
        rows += [(image_id, c, copied.get(c, "")) for c in range(1, n_classes + 1)]
    answer = pd.DataFrame(rows, columns=COLUMNS[:3])
    return answer.assign(hasMask=answer["EncodedPixels"] != "")
