"""Every metric of a set of images, each with the interval of a bootstrap.

Groups are drawn, not images: images of one part rise and fall together. 95 % percentile
intervals, Efron & Tibshirani 1993; few groups give wide ones, and rightly.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from defectmill.dataset_info import ALL_CLASSES
from defectmill.evaluation.counts import COUNTS, PixelCounts
from defectmill.scores import dice_from_counts

RESAMPLES, SEED = 1000, 0
Rows = np.ndarray | None  # one row an image
METRICS = {
    "score": "mean Dice over every (image, class), 1 where both are empty: the competition's",
    "floor": "the score of the empty submission",
    "gain": "score - floor",
    "micro_dice": "Dice of a class with the pixels of all images added up",
    "micro_iou": "intersection over union, alike",
    "imagewise_dice": "mean Dice over all images, 1 where both are empty",
    "imagewise_iou": "mean intersection over union over all images, 1 where both are empty",
    "precision": "share of predicted pixels that are right",
    "recall": "share of true pixels that are found",
    "image_recall": "share of the images with the class that are hit by at least a pixel",
    "false_alarm_rate": "share of the images without the class in which it is predicted",
    "boundary_f1": "F1 of edge pixels that lie within 2 pixels of the other edge",
    "cldice": "Dice of centre lines, for thin defects: of each mask's, the share inside the other mask",
    "soft_pixel_accuracy": "mean predicted probability of the true class, background included: FlexUNet's",
    "soft_pixel_accuracy_of_background": "what predicting background alone reaches of it",
    "nested_score": "score of the validation images with thresholds chosen on other groups",
    "nested_micro_dice": "micro Dice alike",
    "nested_image_recall": "image recall alike",
    "nested_false_alarm_rate": "false alarms alike",
}
# Over all classes these are means over the classes in the truth; the others over all that have one.
FOREGROUND = ("micro_dice", "micro_iou", "precision", "recall", "image_recall", "boundary_f1", "cldice")


def compute_metrics(
    counts: PixelCounts, groups: np.ndarray, class_names: list[str], soft: Rows = None, nested: Rows = None
) -> pd.DataFrame:
    """Compute every metric of the counted images.

    Args:
        groups: (N,) group of each image.
        soft: (N, 3) of `counts.soft_pixel_counts`, where probabilities are known.
        nested: (N, C, 3) pixel counts with thresholds that were chosen on other groups.
    Returns:
        One row a (class, metric), ALL_CLASSES first: class, metric, value, low, high; NaN where there
        is nothing to measure, low and high also where there is one group only.
    """
    values, drawn = bootstrap(make_features(counts.counts, soft), groups, class_names, soft is not None)
    rows = [(*key, float(value[0]), *find_interval(drawn[key])) for key, value in values.items()]
    metrics = pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high"])
    extra = [] if nested is None else [_nested_rows(nested, groups, class_names)]
    return pd.concat([metrics, *extra], ignore_index=True)


def _nested_rows(counts: np.ndarray, groups: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    metrics = compute_metrics(PixelCounts([], counts, np.zeros((0, 0))), groups, class_names)
    kept = metrics[metrics["metric"].isin(["score", "micro_dice", "image_recall", "false_alarm_rate"])]
    if len(set(groups)) < 2:  # there were no others to choose thresholds on
        kept = kept.assign(value=np.nan)
    return kept.assign(metric="nested_" + kept["metric"])


def pick(metrics: pd.DataFrame, metric: str, of: str = ALL_CLASSES) -> pd.Series:
    """Value, low and high of one metric; KeyError where there is no such row."""
    return metrics.set_index(["class", "metric"]).loc[(of, metric)]


def class_table(metrics: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Values with a row a class (ALL_CLASSES last) and a column a metric; NaN where there is none."""
    table = metrics.pivot_table("value", "class", "metric", sort=False, dropna=False)
    order = [c for c in table.index if c != ALL_CLASSES] + [ALL_CLASSES]
    return table.reindex(index=order, columns=list(names))


def make_features(counts: np.ndarray, soft: Rows = None) -> np.ndarray:
    """Write what metrics are made of as numbers of each image that add up over images: (N, C, K) float64.

    Args:
        counts: (N, C, 3 to 11) in the order of COUNTS; missing ones, of edges and lines, count as 0.
    """
    numbers = np.pad(counts.astype(float), [(0, 0), (0, 0), (0, len(COUNTS) - counts.shape[2])])
    both, truth, predicted = np.moveaxis(numbers[..., :3], -1, 0)
    union, has = truth + predicted - both, truth > 0
    iou = np.where(union == 0, 1.0, both / np.maximum(union, 1))
    extra = [np.ones_like(both), dice_from_counts(both, truth, predicted), iou]
    extra += [has, both > 0, ~has & (predicted > 0)]
    if soft is not None:
        extra += [np.repeat(part[:, None], both.shape[1], 1) for part in np.asarray(soft).T]
    return np.concatenate([numbers, np.stack(extra, axis=-1)], axis=-1)


def bootstrap(
    features: np.ndarray, groups: Sequence | np.ndarray, class_names: Sequence[str], has_soft: bool = False
) -> tuple[dict, dict]:
    """Compute the metrics of all images, and of as many groups drawn with replacement, RESAMPLES times.

    The same groups give the same draws, so that the metrics of two runs are paired draw by draw.

    Args:
        features: (N, C, K) of `make_features`, with its soft counts where `has_soft`.
        groups: (N,) group of each image.
    Returns:
        {(class, metric): (1,)} of all images, and {(class, metric): (RESAMPLES,)}; (0,) where there is one
        group only.
    """
    numbers = pd.factorize(np.asarray(groups))[0]
    n_groups = numbers.max() + 1
    by_group = np.zeros((n_groups, *features.shape[1:]))
    np.add.at(by_group, numbers, features)
    n_draws, even = RESAMPLES if n_groups > 1 else 0, np.full(n_groups, 1 / n_groups)
    draws = np.random.default_rng(SEED).multinomial(n_groups, even, n_draws)
    drawn = _measure(np.tensordot(draws, by_group, 1), class_names, has_soft)
    return _measure(by_group.sum(axis=0)[None], class_names, has_soft), drawn


def find_interval(drawn: np.ndarray) -> tuple[float, float]:
    """Find the 95 % percentile interval of a measure's (B,) draws; draws without a value are left out."""
    known = drawn[np.isfinite(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
    return float(low), float(high)


def _measure(sums: np.ndarray, class_names: Sequence[str], has_soft: bool) -> dict:
    """{(class, metric): (B,)} of (B, C, K) sums."""
    parts = np.moveaxis(sums, -1, 0)
    (both, truth, predicted), edges, lines = parts[:3], parts[3:7], parts[7:11]
    n, dice, iou, has, hit, alarm = parts[11:17]
    each = {
        "micro_dice": _ratio(2 * both, truth + predicted),
        "micro_iou": _ratio(both, truth + predicted - both),
        "imagewise_dice": dice / n,
        "imagewise_iou": iou / n,
        "precision": _ratio(both, predicted),
        "recall": _ratio(both, truth),
        "image_recall": _ratio(hit, has),
        "false_alarm_rate": _ratio(alarm, n - has),
        "boundary_f1": _f1(*edges),
        "cldice": _f1(*lines),
    }
    score, floor = each["imagewise_dice"].mean(axis=1), (1 - has / n).mean(axis=1)
    whole = {"score": score, "floor": floor, "gain": score - floor}
    for name in (*FOREGROUND, "imagewise_dice", "imagewise_iou", "false_alarm_rate"):
        known = np.isfinite(each[name]) & ((truth > 0) | (name not in FOREGROUND))
        whole[name] = _ratio(np.where(known, each[name], 0).sum(axis=1), known.sum(axis=1))
    if has_soft:
        likely, empty, total = parts[17:, :, 0]
        whole |= {"soft_pixel_accuracy": likely / total, "soft_pixel_accuracy_of_background": empty / total}
    rows, places = {(ALL_CLASSES, name): value for name, value in whole.items()}, enumerate(class_names)
    return rows | {(kind, name): value[:, c] for c, kind in places for name, value in each.items()}


def _f1(true: np.ndarray, true_met: np.ndarray, guess: np.ndarray, guess_met: np.ndarray) -> np.ndarray:
    """Harmonic mean of the shares of true and of guessed pixels that are met; NaN where there are none."""
    precision, recall = _ratio(guess_met, np.maximum(guess, 1)), _ratio(true_met, np.maximum(true, 1))
    f1 = np.nan_to_num(_ratio(2 * precision * recall, precision + recall))
    return np.where(true + guess > 0, f1, np.nan)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)
