"""Scores: the competition metric, and the panel beside it.

Dice of two masks is 2|X and Y| / (|X| + |Y|), Sorensen 1948; the competition adds: 1 where both
are empty. Arrays are (N, H, W, C) or one picture (H, W, C), in {0, 1}, background not among C.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from defectmill.rle import intersect_rles, rle_area


def dice_from_counts(both: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice from pixel counts of any one shape; 1 where truth and prediction are both empty."""
    total = np.asarray(truth) + np.asarray(predicted)
    return np.where(total == 0, 1.0, 2 * np.asarray(both) / np.maximum(total, 1))


def pooled_dice(both: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice of each class over all images together.

    Args:
        both, truth, predicted: (N, C) pixel counts.
    Returns:
        (C,) float64; NaN for a class that is neither in the truth nor predicted.
    """
    total = (np.asarray(truth) + np.asarray(predicted)).sum(axis=0)
    return np.where(total == 0, np.nan, 2 * np.asarray(both).sum(axis=0) / np.maximum(total, 1))


def mean_dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The competition's score: mean Dice over every (image, class), 1 where both are empty.

    Raises:
        ValueError: the arrays differ in shape or hold other values than 0 and 1.
    """
    return float(dice_from_counts(*count_pixels(truth, predicted)).mean())


def dice_per_class(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice of each class pooled over the images: (C,); an all-background answer scores 0.

    NaN for a class that is neither in the truth nor predicted: there is nothing to measure.
    """
    return pooled_dice(*count_pixels(truth, predicted))


def count_pixels(
    truth: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count shared, true and predicted pixels: three (N, C) int64 arrays."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    if truth.ndim == 3:
        truth, predicted = truth[None], predicted[None]
    if truth.ndim != 4:
        raise ValueError(f"masks are (N, H, W, C) or (H, W, C), not {truth.shape}")
    for array in (truth, predicted):
        if not np.isin(array, (0, 1)).all():
            raise ValueError("masks hold 0 and 1 only; threshold probabilities first")
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    sums = ((truth & predicted), truth, predicted)
    both, true, guessed = (array.sum(axis=(1, 2), dtype=np.int64) for array in sums)
    return both, true, guessed


def count_runs(
    truth: pd.DataFrame, predicted: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `count_pixels`, from two label tables of the same (image, class) rows in one order."""
    n_classes = int(truth["ClassId"].max())
    pairs = list(zip(truth["EncodedPixels"], predicted["EncodedPixels"], strict=True))
    counts = np.array(
        [(intersect_rles(t, p), rle_area(t), rle_area(p)) for t, p in pairs], np.int64
    )
    return tuple(counts.reshape(-1, n_classes, 3).transpose(2, 0, 1))


def soft_pixel_counts(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], exclusive: bool
) -> np.ndarray:
    """Sum the probabilities of the true answers, image by image.

    The first column over the last is FlexUNet's dice_coef_multiclass: background is most of it,
    so it flatters.

    Args:
        pairs: (probs, truth), both (H, W, C), read once.
        exclusive: one answer a pixel, background among them; else one a pixel and class.
    Returns:
        (N, 3) float64: what the probabilities earn, what background alone would, answers.
    """
    rows = []
    for probs, truth in pairs:
        if exclusive:
            clean = ~truth.any(axis=-1)
            likely = (probs * truth).sum(dtype=float)
            likely += np.clip(1 - probs[clean].sum(axis=-1), 0, 1).sum(dtype=float)
        else:
            clean = truth == 0
            likely = np.where(clean, 1 - probs, probs).sum(dtype=float)
        rows.append((likely, clean.sum(), clean.size))
    return np.array(rows, float).reshape(-1, 3)


def dice_by_image(truth: pd.DataFrame, predicted: pd.DataFrame) -> pd.Series:
    """Dice of each image, its classes taken together; images with nothing on either side are out.

    Returns:
        Series by ImageId, worst first.
    """
    both, true, guessed = (counts.sum(axis=1) for counts in count_runs(truth, predicted))
    ids = truth["ImageId"].drop_duplicates()
    dice = pd.Series(dice_from_counts(both, true, guessed), index=ids)
    return dice[(true + guessed) > 0].sort_values(kind="stable")
