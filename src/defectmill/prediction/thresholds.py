"""Class thresholds chosen on the validation fold, by a grid search."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from defectmill.config import ConfigError
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError, write_atomically
from defectmill.prediction.postprocess import ClassThreshold, Pairs, find_components, keep_likeliest
from defectmill.rle import rle_area
from defectmill.scores import dice_from_counts, micro_dice
from defectmill.settings import PredictSettings

PRIOR = 10  # with fewer images than this, a class is judged more by the other classes than by itself
NESTED = 5
NOTHING = ClassThreshold(1.0, 1.0, 0)


@dataclass(frozen=True)
class GridSearch:
    """What each point of the grid, a ClassThreshold, does to the validation images.

    class_thresholds: R points a class. shares: their minimum areas in shares of the class's typical mask.
    counts: (N, C, R, 3) shared, true and predicted pixels.
    """

    class_thresholds: list[list[ClassThreshold]]
    shares: list[float]
    counts: np.ndarray


def typical_areas(labels: pd.DataFrame, n_classes: int) -> list[float]:
    """Median area of the masks of each class, in pixels; 0 for a class without a mask."""
    masks = labels[labels["hasMask"]]
    medians = masks["EncodedPixels"].map(rle_area).groupby(masks["ClassId"]).median()
    return [float(medians.get(c, 0)) for c in range(1, n_classes + 1)]


def search_grid(maps: Pairs, settings: PredictSettings, areas: list[float], exclusive: bool) -> GridSearch:
    """Count what each point of the grid does to validation images.

    Args:
        maps: (probs, truth), both (H, W, C), read once; DefectmillError where there are none.
        settings: thresholds (also tried as high thresholds), and minimum areas in shares of `areas`.
        areas: of a typical mask of each class, in pixels.
        exclusive: see `make_masks`.
    """
    steps = product(settings.thresholds, settings.thresholds, settings.minimum_areas)
    grid = [(float(low), float(high), float(share)) for low, high, share in steps if high >= low]
    points = [[ClassThreshold(low, high, round(s * area)) for low, high, s in grid] for area in areas]
    counts = []
    for probs, truth in maps:
        probs = keep_likeliest(probs) if exclusive else probs
        counts.append([_count(probs[..., c], truth[..., c], mine) for c, mine in enumerate(points)])
    if not counts:
        raise DefectmillError("no validation images to choose thresholds on")
    return GridSearch(points, [share for *_, share in grid], np.array(counts))


def _count(probs: np.ndarray, truth: np.ndarray, points: Sequence[ClassThreshold]) -> np.ndarray:
    """Shared, true and predicted pixels of one (H, W) map at each point: (R, 3) int64."""
    rows, n_true = [], truth.sum()
    for threshold, some in groupby(points, lambda point: point.threshold):
        components, areas, peaks = find_components(probs, threshold)
        shared = np.bincount(components[truth > 0], minlength=len(areas) + 1)[1:]
        for point in some:
            keep = (areas >= point.minimum_area) & (peaks >= point.high_threshold)
            rows.append((shared[keep].sum(), n_true, areas[keep].sum()))
    return np.array(rows, np.int64)


def choose_thresholds(search: GridSearch) -> tuple[list[ClassThreshold], pd.DataFrame]:
    """Choose the threshold of each class: the point of the largest gain; none gains: never predicted.

    The gain is what a point adds to the score of the empty submission for each image with the class (a
    false alarm costs 1, a found defect earns its Dice), plus its micro Dice, which large defects dominate.
    Few images do not carry a choice among hundreds of points, so the gain of a class is shrunken towards
    the mean of all classes (partial pooling, as of `PRIOR` more images); counting by image with the class
    and minimum areas in shares of its typical mask make rare and common classes comparable.

    Returns:
        one ClassThreshold a class, and the whole grid: ClassId, threshold, high_threshold,
        minimum_area, area_share, imagewise_dice, micro_dice, gain.
    """
    imagewise, micro, gain = _judge(search.counts)
    best = zip(search.class_thresholds, _best(gain), strict=True)
    chosen = [NOTHING if place is None else mine[place] for mine, place in best]
    points = [{"ClassId": c, **asdict(p)} for c, mine in enumerate(search.class_thresholds, 1) for p in mine]
    shares = np.tile(search.shares, len(chosen))
    judged = {"imagewise_dice": imagewise.ravel(), "micro_dice": micro.ravel(), "gain": gain.ravel()}
    return chosen, pd.DataFrame(points).assign(area_share=shares, **judged)


def nested_counts(search: GridSearch, groups: Sequence[int]) -> np.ndarray:
    """Count pixels with thresholds chosen on other groups than the image's own: (N, C, 3) as in `GridSearch`.

    The same images tell which threshold is best and how good it is: that flatters. Here every fifth of
    the groups is judged by what the rest would choose; images all of one group by the empty submission.

    Args:
        groups: of the images, in the order of the search.
    """
    counts = search.counts[:, :, 0] * [0, 1, 0]
    parts = min(NESTED, len(set(groups)))
    folds = GroupKFold(parts).split(search.counts, groups=groups) if parts > 1 else []
    for rest, judged in folds:
        for channel, best in enumerate(_best(_judge(search.counts[rest])[2])):
            if best is not None:
                counts[judged, channel] = search.counts[judged, channel, best]
    return counts


def _judge(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image-wise Dice, micro Dice and shrunken gain of each point: (C, R) each."""
    both, true, guessed = np.moveaxis(counts, -1, 0)
    imagewise = dice_from_counts(both, true, guessed).mean(axis=0)
    micro = np.nan_to_num(micro_dice(both, true, guessed))
    n_true = (true[:, :, :1] > 0).sum(axis=0)
    added = imagewise * len(counts) - (len(counts) - n_true)
    gain = added / np.maximum(n_true, 1) + micro
    # A class of one image and sixty false alarms must not speak for all, nor an absent one.
    seen = n_true[:, 0] > 0
    prior = np.maximum(gain[seen], -1).mean(axis=0) if seen.any() else gain.mean(axis=0)
    shrunken = (added + n_true * micro + PRIOR * prior) / (n_true + PRIOR)
    # An absent class has false alarms only: one is too many.
    return imagewise, micro, np.where(n_true > 0, shrunken, np.where(added < 0, added, prior))


def _best(gain: np.ndarray) -> list[int | None]:
    """Place of the best point of each class; None where no point gains."""
    return [int(gains.argmax()) if gains.max() > 0 else None for gains in gain]


def write_thresholds(thresholds: Sequence[ClassThreshold], info: DatasetInfo, path: Path) -> None:
    """Write thresholds.json: for each class id its name and threshold."""
    pairs = zip(info.classes, thresholds, strict=True)
    chosen = {kind.id: {"name": kind.name, **asdict(threshold)} for kind, threshold in pairs}
    with write_atomically(path) as part:
        part.write_text(json.dumps(chosen, indent=1) + "\n")


def read_thresholds(path: Path) -> list[ClassThreshold]:
    """Read thresholds.json back, by channel; ConfigError where an older version wrote it."""
    rows = sorted(json.loads(path.read_text()).items(), key=lambda item: int(item[0]))
    try:
        return [ClassThreshold(r["threshold"], r["high_threshold"], r["minimum_area"]) for _, r in rows]
    except KeyError as error:
        todo = f"`make predict EXPERIMENT={path.parent.name}` writes it anew"
        raise ConfigError(f"{path}: has no {error}, an older version wrote it: {todo}") from error
