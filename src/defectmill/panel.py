"""The panel: every measure of a set of pictures, each with the interval of a bootstrap.

Groups are drawn, not pictures: shots of one part rise and fall together. 95 % percentile
intervals, Efron & Tibshirani 1993; few groups give wide ones, and rightly.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from defectmill.cards import RESERVED
from defectmill.scores import dice_from_counts
from defectmill.tally import COUNTS, Tally

RESAMPLES = 1000
ALL = RESERVED[0]
MEASURES = {
    "score": "mean Dice over every (image, class), 1 where both are empty: the competition's",
    "floor": "the score of the answer that says nothing",
    "gain": "score - floor",
    "pooled_dice": "Dice of a class's pixels over all images together",
    "pooled_iou": "intersection over union, pooled alike",
    "mean_dice": "mean Dice over all images, 1 where both are empty",
    "mean_iou": "mean intersection over union over all images, 1 where both are empty",
    "precision": "share of predicted pixels that are right",
    "recall": "share of true pixels that are found",
    "image_recall": "share of the images with the class that are hit by at least a pixel",
    "false_alarm_rate": "share of the images without the class in which it is predicted",
    "boundary_f1": "F1 of edge pixels that lie within 2 pixels of the other edge",
    "soft_pixel_accuracy": "mean probability of the true answer, background included: FlexUNet's",
    "soft_pixel_accuracy_of_background": "what background alone gets of it",
    "nested_score": "score of the held-out fold with rules chosen on its other groups",
    "nested_pooled_dice": "pooled Dice alike",
}
# Over all classes these are means over the classes in the truth; the others over all that have one.
FOREGROUND = ("pooled_dice", "pooled_iou", "precision", "recall", "image_recall", "boundary_f1")


def score_panel(
    tally: Tally, groups: np.ndarray, class_names: list[str], soft: np.ndarray | None = None,
    nested: np.ndarray | None = None, resamples: int = RESAMPLES, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Measure a tally.

    Args:
        groups: (N,) group of each image of the tally.
        soft: (N, 3) of `scores.soft_pixel_counts`, where probabilities are known.
        nested: (N, C, 3) of `rules.nested_counts`, of the held-out fold.
    Returns:
        One row a (class, measure), ALL first: class, measure, value, low, high; NaN where there
        is nothing to measure, low and high also where there is one group only.
    """
    numbers, names = pd.factorize(np.asarray(groups))
    by_group = np.zeros((len(names), *(features := _features(tally, soft)).shape[1:]))
    np.add.at(by_group, numbers, features)
    values = _measure(by_group.sum(axis=0)[None], class_names, soft is not None)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), resamples
    )
    drawn = _measure(np.tensordot(draws, by_group, 1), class_names, soft is not None)
    rows = []
    for key, value in values.items():
        known = drawn[key][np.isfinite(drawn[key])]
        low, high = (
            np.percentile(known, (2.5, 97.5)) if len(names) > 1 and known.size else (np.nan,) * 2
        )
        rows.append((*key, float(value[0]), float(low), float(high)))
    panel = pd.DataFrame(rows, columns=["class", "measure", "value", "low", "high"])
    if nested is None:
        return panel
    return pd.concat([panel, _nested_rows(nested, groups, class_names)], ignore_index=True)


def _nested_rows(counts: np.ndarray, groups: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    edges = np.zeros((*counts.shape[:2], len(COUNTS) - 3), np.int64)
    tally = Tally([], np.concatenate([counts, edges], axis=-1), np.zeros((0, 0)))
    panel = score_panel(tally, groups, class_names)
    kept = panel[panel["measure"].isin(["score", "pooled_dice"])]
    if len(set(groups)) < 2:  # there were no others to choose rules on
        kept = kept.assign(value=np.nan)
    return kept.assign(measure="nested_" + kept["measure"])


def pick(panel: pd.DataFrame, measure: str, of: str = ALL) -> pd.Series:
    """Value, low and high of one measure.

    Raises:
        KeyError: the panel has no such row.
    """
    return panel.set_index(["class", "measure"]).loc[(of, measure)]


def class_table(panel: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Values with a row a class (ALL last) and a column a measure; NaN where there is none."""
    table = panel.pivot_table("value", "class", "measure", sort=False, dropna=False)
    order = [c for c in table.index if c != ALL] + [ALL]
    return table.reindex(index=order, columns=list(measures))


def _features(tally: Tally, soft: np.ndarray | None) -> np.ndarray:
    """(N, C, K): the counts, then what is a sum over images only."""
    counts = tally.counts.astype(float)
    both, truth, predicted = (counts[..., COUNTS.index(n)] for n in ("both", "truth", "predicted"))
    union = truth + predicted - both
    has = truth > 0
    extra = [
        np.ones_like(both), dice_from_counts(both, truth, predicted),
        np.where(union == 0, 1.0, both / np.maximum(union, 1)),
        has, both > 0, ~has & (predicted > 0),
    ]  # fmt: skip
    if soft is not None:
        extra += [np.repeat(part[:, None], both.shape[1], 1) for part in np.asarray(soft).T]
    return np.concatenate([counts, np.stack(extra, axis=-1)], axis=-1)


def _measure(sums: np.ndarray, class_names: list[str], has_soft: bool) -> dict:
    """{(class, measure): (B,)} of (B, C, K) sums."""
    both, truth, predicted, edge, edge_met, guess, guess_met, n, dice, iou, has, hit, alarm = (
        np.moveaxis(sums, -1, 0)[:13]
    )
    boundary = _ratio(guess_met, np.maximum(guess, 1)), _ratio(edge_met, np.maximum(edge, 1))
    f1 = np.nan_to_num(_ratio(2 * boundary[0] * boundary[1], boundary[0] + boundary[1]))
    each = {
        "pooled_dice": _ratio(2 * both, truth + predicted),
        "pooled_iou": _ratio(both, truth + predicted - both),
        "mean_dice": dice / n,
        "mean_iou": iou / n,
        "precision": _ratio(both, predicted),
        "recall": _ratio(both, truth),
        "image_recall": _ratio(hit, has),
        "false_alarm_rate": _ratio(alarm, n - has),
        "boundary_f1": np.where(edge + guess > 0, f1, np.nan),
    }
    score, floor = each["mean_dice"].mean(axis=1), (1 - has / n).mean(axis=1)
    whole = {"score": score, "floor": floor, "gain": score - floor}
    for name in FOREGROUND:
        known = np.where((truth > 0) & np.isfinite(each[name]), 1.0, 0.0)
        whole[name] = _ratio((np.nan_to_num(each[name]) * known).sum(axis=1), known.sum(axis=1))
    whole["mean_dice"], whole["mean_iou"] = score, each["mean_iou"].mean(axis=1)
    rates = each["false_alarm_rate"]
    known = np.isfinite(rates)
    whole["false_alarm_rate"] = _ratio(np.where(known, rates, 0).sum(axis=1), known.sum(axis=1))
    if has_soft:
        likely, empty, total = np.moveaxis(sums[:, 0, 13:], -1, 0)
        whole["soft_pixel_accuracy"] = likely / total
        whole["soft_pixel_accuracy_of_background"] = empty / total
    rows = {(ALL, name): value for name, value in whole.items()}
    for c, kind in enumerate(class_names):
        rows |= {(kind, name): value[:, c] for name, value in each.items()}
    return rows


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)
