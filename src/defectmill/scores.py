"""The competition's score, and Dice in all its kinds.

Dice of two masks is 2|X and Y| / (|X| + |Y|), Sorensen 1948; the competition adds: 1 where both
are empty. It is computed from three pixel counts, of shared, true and predicted pixels.
"""

import numpy as np
import pandas as pd

from defectmill.files import DefectmillError
from defectmill.rle import intersect_rles, rle_area

LEVELS = 256  # of probability
Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def dice_from_counts(both: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice from pixel counts of any one shape; 1 where truth and prediction are both empty."""
    total = np.asarray(truth) + np.asarray(predicted)
    return np.where(total == 0, 1.0, 2 * np.asarray(both) / np.maximum(total, 1))


def competition_score(both: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean Dice over every (image, class), 1 where both are empty, from (N, C) pixel counts."""
    return float(dice_from_counts(both, truth, predicted).mean())


def micro_dice(both: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice of each class with the pixels of all images added up.

    Args:
        both, truth, predicted: (N, C) pixel counts.
    Returns:
        (C,) float64; NaN for a class that is neither in the truth nor predicted.
    """
    total = (np.asarray(truth) + np.asarray(predicted)).sum(axis=0)
    return np.where(total == 0, np.nan, 2 * np.asarray(both).sum(axis=0) / np.maximum(total, 1))


def mean_dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The competition's score of masks: mean Dice over every (image, class), 1 where both are empty.

    Args:
        truth, predicted: (N, H, W, C) or one image (H, W, C), in {0, 1}, background not among C.
    Raises:
        DefectmillError: the arrays differ in shape or hold other values than 0 and 1.
    """
    return competition_score(*count_pixels(truth, predicted))


def dice_per_class(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Micro Dice of each class over the images: (C,); predicting only background scores 0.

    NaN for a class that is neither in the truth nor predicted: there is nothing to measure.
    """
    return micro_dice(*count_pixels(truth, predicted))


def count_pixels(truth: np.ndarray, predicted: np.ndarray) -> Counts:
    """Count shared, true and predicted pixels of masks as `mean_dice` takes them: three (N, C) int64."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise DefectmillError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    if truth.ndim == 3:
        truth, predicted = truth[None], predicted[None]
    if truth.ndim != 4:
        raise DefectmillError(f"masks are (N, H, W, C) or (H, W, C), not {truth.shape}")
    for array in (truth, predicted):
        if not np.isin(array, (0, 1)).all():
            raise DefectmillError("masks hold 0 and 1 only; threshold probabilities first")
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    both, true, guessed = (
        array.sum(axis=(1, 2), dtype=np.int64) for array in (truth & predicted, truth, predicted)
    )
    return both, true, guessed


def count_levels(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the pixels of each class by their probability, in LEVELS steps.

    Takes (H, W, C) probabilities and masks in {0, 1}; gives (C, 2 * LEVELS) int64: pixels that are not the
    class, from probability 0 to 1, then those that are.
    """
    n_classes = probs.shape[-1]
    levels = np.rint(probs * (LEVELS - 1)).astype(np.uint8)
    numbers = (levels + LEVELS * np.arange(n_classes)).ravel()  # of class and level: one pass over the pixels
    size, is_defect = n_classes * LEVELS, np.flatnonzero(truth > 0)
    defect = np.bincount(numbers[is_defect], minlength=size)
    clean = np.bincount(numbers, minlength=size) - defect
    return np.hstack([clean.reshape(-1, LEVELS), defect.reshape(-1, LEVELS)])


def count_runs(truth: pd.DataFrame, predicted: pd.DataFrame) -> Counts:
    """As `count_pixels`, from two label tables; DefectmillError unless their rows are the same, in order."""
    n_classes, pair = int(truth["ClassId"].max()), ["ImageId", "ClassId"]
    if not np.array_equal(truth[pair].to_numpy(), predicted[pair].to_numpy()):
        raise DefectmillError("truth and prediction must have the same rows (ImageId, ClassId) in one order")
    pairs = zip(truth["EncodedPixels"], predicted["EncodedPixels"], strict=True)
    rows = [(intersect_rles(t, p), rle_area(t), rle_area(p)) for t, p in pairs]
    both, true, guessed = np.array(rows, np.int64).reshape(-1, n_classes, 3).transpose(2, 0, 1)
    return both, true, guessed


def dice_by_image(truth: pd.DataFrame, predicted: pd.DataFrame) -> pd.Series:
    """Dice of each image, its classes taken together; images without a defect on either side are out.

    Returns:
        Series by ImageId, worst first.
    """
    both, true, guessed = (counts.sum(axis=1) for counts in count_runs(truth, predicted))
    dice = pd.Series(dice_from_counts(both, true, guessed), index=truth["ImageId"].drop_duplicates())
    return dice[(true + guessed) > 0].sort_values(kind="stable")
