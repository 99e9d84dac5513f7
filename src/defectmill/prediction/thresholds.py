"""Class thresholds chosen on validation images, by a grid search."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from defectmill.config import ConfigError
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError, read_text, write_atomically
from defectmill.prediction.postprocess import (
    ClassThreshold,
    Pairs,
    cut_by_expected_dice,
    find_components,
    keep_likeliest,
)
from defectmill.rle import rle_area
from defectmill.scores import LEVELS, count_levels, dice_from_counts, micro_dice
from defectmill.settings import PredictSettings

PRIOR = 10  # with fewer images than this, a class is judged more by the other classes than by itself
NESTED = 5
DECIDES = 0.3  # the calibrated probability at which classes are compared
BELIEF = 0.01  # weight of what a probability says itself, in shares of the pixels of a class
STEEP = 4  # of the belief: what nested counts of 16 leather images chose among 1, 2, 4, 8
NOTHING = ClassThreshold(1.0, 1.0, 0)
# A threshold, the places of its points, and of each its minimum area, high threshold, expected Dice: (R, 1).
Step = tuple[float, slice, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class GridSearch:
    """What each point of the grid, a ClassThreshold, does to the validation images.

    class_thresholds: R points a class. grid: the same as calibrated threshold, calibrated high threshold and
    minimum area in shares of the class's typical mask, (R, 3); with a threshold an image, both thresholds are
    the expected Dice. counts: (N, C, R, 3) shared, true and predicted pixels.
    """

    class_thresholds: list[list[ClassThreshold]]
    grid: np.ndarray
    counts: np.ndarray
    settings: PredictSettings


def typical_areas(labels: pd.DataFrame, n_classes: int) -> list[float]:
    """Median area of the masks of each class, in pixels; 0 for a class without a mask."""
    masks = labels[labels["hasMask"]]
    medians = masks["EncodedPixels"].map(rle_area).astype(float).groupby(masks["ClassId"]).median()
    return [float(medians.get(c, 0)) for c in range(1, n_classes + 1)]


def fit_calibration(maps: Pairs, n_classes: int, groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """Fit for each class how a probability is to be read, so that it agrees with how often it is right.

    Isotonic regression of the pixels (Zadrozny and Elkan 2002): crops show more defects than images do, and
    the mean over flips and scales of a small defect is low. A logistic curve (Platt 1999) does not follow the
    few pixels of rare classes: nearly all pixels lie at its lower end.

    Args:
        maps: (probs, truth), both (H, W, C), read once.
        groups: of the images, in their order.
    Returns:
        (C, LEVELS) calibrated probability of each level from 0 to 1, never falling; the fewer groups a class
        has, the nearer to the level itself.
    """
    pixels, levels = np.zeros((n_classes, 2 * LEVELS)), np.linspace(0, 1, LEVELS)
    groups_of: list[set[int]] = [set() for _ in range(n_classes)]
    for (probs, truth), group in zip(maps, groups, strict=True):
        counts = count_levels(probs, truth)
        pixels += counts
        for channel in np.flatnonzero(counts[:, LEVELS:].any(axis=1)).tolist():
            groups_of[channel].add(group)
    fitted = np.tile(levels, (n_classes, 1))
    for channel, found in enumerate(groups_of):
        clean, defect = pixels[channel].reshape(2, LEVELS)
        # Levels that no pixel has are read as they are, so far as their neighbours allow.
        belief = (1 + BELIEF * defect.sum()) / LEVELS
        weights = clean + defect + belief
        rates = (defect + belief * levels) / weights
        regression = IsotonicRegression(y_min=0, y_max=1).fit(levels, rates, weights)
        trust = len(found) / (len(found) + PRIOR / 2)
        fitted[channel] = trust * regression.predict(levels) + (1 - trust) * levels
    return fitted


def search_grid(
    maps: Pairs,
    settings: PredictSettings,
    areas: list[float],
    exclusive: bool,
    calibration: np.ndarray | None = None,
) -> GridSearch:
    """Count what each point of the grid does to validation images.

    Args:
        maps: (probs, truth), both (H, W, C), read once; DefectmillError where there are none.
        settings: thresholds (also tried as high thresholds), expected Dice for a threshold an image, each
            with the minimum areas, in shares of `areas`.
        areas: of a typical mask of each class, in pixels.
        exclusive: see `make_masks`.
        calibration: of `fit_calibration`; None: probabilities are taken as they are.
    """
    combinations = product(settings.thresholds, settings.thresholds, settings.minimum_areas)
    grid = np.array([(low, high, share) for low, high, share in combinations if high >= low], float)
    pairs = product(settings.expected_dice, settings.minimum_areas)
    own = np.array([(e, e, share) for e, share in pairs], float).reshape(-1, 3)
    holes = settings.fill_holes
    levels, points, weights = np.linspace(0, 1, LEVELS), [], list[float]()
    calibration = np.tile(levels, (len(areas), 1)) if calibration is None else calibration.round(6)
    for area, calibrated in zip(areas, calibration, strict=True):
        bounds, weight = grid[:, :2], 1.0
        if (calibrated != levels).any():  # else rounding would change the last digit
            # Just below the first level that is so likely. Nearer to 0 or 1, maps stored in LEVELS would not
            # be those of the test images.
            bounds = ((np.searchsorted(calibrated, bounds) - 0.5) / (LEVELS - 1)).clip(0.01, 0.99)
            decides = min(int(np.searchsorted(calibrated, DECIDES)), LEVELS - 1)
            weight = DECIDES / float(levels[max(decides, 1)])
        found = zip(*bounds.T.tolist(), (grid[:, 2] * area).tolist(), strict=True)
        curve = tuple(calibrated.tolist())
        fixed = [ClassThreshold(t, h, round(a), holes, weight) for t, h, a in found]
        gates = [(e, round(share * area)) for e, _, share in own.tolist()]
        points.append(fixed + [ClassThreshold(0.0, 0.0, a, holes, weight, e, curve) for e, a in gates])
        weights.append(weight)
    counts, steps = [], [*map(_by_threshold, points)]
    for probs, truth in maps:
        probs = keep_likeliest(probs, weights) if exclusive else probs
        ours, theirs = (np.ascontiguousarray(np.moveaxis(array, 2, 0)) for array in (probs, truth))
        rows = zip(ours, theirs, steps, calibration, strict=True)
        counts.append([_count(*row, holes) for row in rows])
    if not counts:
        raise DefectmillError("no validation images to choose thresholds on")
    return GridSearch(points, np.concatenate([grid, own]), np.array(counts), settings)


def _by_threshold(points: Sequence[ClassThreshold]) -> list[Step]:
    """Take points that follow one another with the same threshold together; -1 is one of each image."""
    steps: list[Step] = []
    for threshold, some in groupby(points, lambda point: -1 if point.expected_dice else point.threshold):
        rest = np.array([(point.minimum_area, point.high_threshold, point.expected_dice) for point in some])
        begin = steps[-1][1].stop if steps else 0
        steps.append((threshold, slice(begin, begin + len(rest)), rest[:, :1], rest[:, 1:2], rest[:, 2:]))
    return steps


def _count(probs, truth, steps: list[Step], curve: np.ndarray, holes: bool) -> np.ndarray:
    """Shared, true and predicted pixels of one (H, W) map at each point: (R, 3) int64."""
    counts = np.zeros((steps[-1][1].stop, 3), np.int64)
    counts[:, 1] = np.count_nonzero(truth)
    own, expected = cut_by_expected_dice(probs, curve) if steps[-1][0] < 0 else (1.0, 0.0)
    own = own if (steps[-1][4] <= expected).any() else 1.0  # else noise, cut low, is searched for nothing
    cuts = [own if step[0] < 0 else step[0] for step in steps]
    # Defects are small: what is not around them is left out, which saves most of the time.
    above = probs > min(cuts)
    box = tuple(_extent(np.flatnonzero(above.any(axis=axis))) for axis in (1, 0))
    probs, truth = probs[box], truth[box] > 0
    for cut, (_, places, minimum, high, wanted) in zip(cuts, steps, strict=True):
        components, areas, peaks = find_components(probs, cut, holes)
        if areas.size:
            shared = np.bincount(components[truth], minlength=len(areas) + 1)[1:]
            keep = (areas >= minimum) & (peaks >= high.astype(peaks.dtype)) & (wanted <= expected)
            counts[places, ::2] = keep @ np.array([shared, areas]).T
    return counts


def _extent(places: np.ndarray) -> slice:
    """From the first to the last of places in order; of none where there is none."""
    return slice(places[0], places[-1] + 1) if places.size else slice(0)


def choose_thresholds(
    search: GridSearch, groups: Sequence[int] | np.ndarray
) -> tuple[list[ClassThreshold], pd.DataFrame]:
    """Choose the threshold of each class: the point of the largest gain.

    The gain is what a point adds to the score of the empty submission for each image with the class (a
    false alarm costs 1, a found defect earns its Dice), plus its micro Dice, which large defects dominate;
    or one of the two, as `objective` says. Few images do not carry a choice among hundreds of points, so
    the gain of a class is shrunken towards the mean of all classes (partial pooling, as of `PRIOR` more
    images), and that towards each image's own threshold where the expected Dice is a half, without minimum
    area; counting by image with the class and minimum areas in shares of its typical mask make rare and
    common classes comparable. A class that no point gains for is never predicted, but only where at least
    `PRIOR` groups of images that have it, or seem to, say so.

    Args:
        groups: of the images, in the order of the search.
    Returns:
        one ClassThreshold a class, and the whole grid: ClassId, threshold, high_threshold, minimum_area,
        fill_holes, expected_dice, calibrated (the threshold), area_share, imagewise_dice, micro_dice, gain.
    """
    imagewise, micro, gain = _judge(search)
    best = zip(search.class_thresholds, _best(search, groups), strict=True)
    chosen = [NOTHING if place is None else mine[place] for mine, place in best]
    shown = [field.name for field in fields(ClassThreshold) if field.name not in ("weight", "calibration")]
    points = [
        {"ClassId": c, **{name: getattr(point, name) for name in shown}}
        for c, mine in enumerate(search.class_thresholds, 1)
        for point in mine
    ]
    of_grid = np.tile(search.grid[:, [0, 2]], (len(chosen), 1)).T
    judged = {"imagewise_dice": imagewise.ravel(), "micro_dice": micro.ravel(), "gain": gain.ravel()}
    return chosen, pd.DataFrame(points).assign(calibrated=of_grid[0], area_share=of_grid[1], **judged)


def nested_counts(search: GridSearch, groups: Sequence[int]) -> np.ndarray:
    """Count pixels with thresholds chosen on other groups than the image's own: (N, C, 3) as in `GridSearch`.

    The same images tell which threshold is best and how good it is: that flatters. Here every fifth of
    the groups is judged by what the rest would choose; images all of one group by the empty submission. The
    calibration, two numbers a class, and the typical areas are those of all images.

    Args:
        groups: of the images, in the order of the search.
    """
    counts = search.counts[:, :, 0] * [0, 1, 0]
    parts = min(NESTED, len(set(groups)))
    folds = GroupKFold(parts).split(search.counts, groups=groups) if parts > 1 else []
    for rest, judged in folds:
        others = replace(search, counts=search.counts[rest])
        for channel, best in enumerate(_best(others, np.asarray(groups)[rest])):
            if best is not None:
                counts[judged, channel] = search.counts[judged, channel, best]
    return counts


def _judge(search: GridSearch, lean: float = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image-wise Dice, micro Dice and shrunken gain of each point: (C, R) each.

    `lean` is how many images the belief weighs that each image's own threshold is right, at an expected Dice
    of a half; else a threshold of a half; and no minimum area.
    """
    counts, objective = search.counts, search.settings.objective
    both, true, guessed = np.moveaxis(counts, -1, 0)
    imagewise = dice_from_counts(both, true, guessed).mean(axis=0)
    micro = np.nan_to_num(micro_dice(both, true, guessed))
    n_true = (true[:, :, :1] > 0).sum(axis=0)
    added = (imagewise * len(counts) - (len(counts) - n_true)) * (objective != "dice")
    shown = micro * (objective != "score")
    # A class of one image and sixty false alarms must not speak for all, nor an absent one.
    gain, seen, total = added / np.maximum(n_true, 1) + shown, n_true[:, 0] > 0, n_true.sum()
    prior = np.maximum(gain[seen], -1).mean(axis=0) if seen.any() else np.zeros(len(search.grid))
    low, high, share = search.grid.T
    of_all = np.array([not point.expected_dice for point in search.class_thresholds[0]])
    belief = -STEEP * (np.abs(low - 0.5) + np.abs(high - low) + share + of_all / 2)
    prior = (total * prior + lean * belief) / max(total + lean, 1)
    shrunken = (added + n_true * shown + PRIOR * prior) / (n_true + PRIOR)
    # An absent class has false alarms only: one is too many, where many images could have had one.
    alarmed = np.where(added < 0, added * total / max(total + lean, 1), prior)
    return imagewise, micro, np.where(n_true > 0, shrunken, alarmed)


def _best(search: GridSearch, groups: Sequence[int] | np.ndarray) -> list[int | None]:
    """Place of the best point of each class; None where no point gains, and `PRIOR` groups say so."""
    both, true, guessed = np.moveaxis(search.counts, -1, 0) > 0
    n_true, hit, seems = true[:, :, 0].sum(axis=0), both.sum(axis=0), true | guessed
    numbers = np.unique(groups, return_inverse=True)[1]
    speaking = sum(seems[numbers == n].any(axis=0).astype(int) for n in range(numbers.max() + 1))
    wanted, best = search.settings.image_recall, list[int | None]()
    rows = zip(_judge(search)[2], _judge(search, PRIOR)[2], n_true, hit, speaking, strict=True)
    for gains, leaning, n, hits, speak in rows:
        fits = hits >= min(np.ceil(wanted * n - 1e-9), hits.max())
        is_hopeless = gains.max() <= 0 and not wanted and speak[gains.argmax()] >= PRIOR
        best.append(None if is_hopeless else int(np.where(fits, leaning, -np.inf).argmax()))
    return best


def write_thresholds(thresholds: Sequence[ClassThreshold], info: DatasetInfo, path: Path) -> None:
    """Write thresholds.json: for each class id its name and threshold, a line a class."""
    pairs = zip(info.classes, thresholds, strict=True)
    rows = [f'"{kind.id}": {json.dumps({"name": kind.name, **asdict(one)})}' for kind, one in pairs]
    with write_atomically(path) as part:
        part.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def read_thresholds(path: Path) -> list[ClassThreshold]:
    """Read thresholds.json back, by channel; ConfigError where it is damaged or an older version wrote it."""
    text, todo = read_text(path), f"`make predict EXPERIMENT={path.parent.name}` writes it anew"
    try:
        rows = sorted(json.loads(text).items(), key=lambda item: int(item[0]))
        names, reader = [field.name for field in fields(ClassThreshold)], TypeAdapter(ClassThreshold)
        found = [reader.validate_python({name: row[name] for name in names}) for _, row in rows]
        numbers = [(p.threshold, p.high_threshold, p.weight, p.expected_dice, *p.calibration) for p in found]
        if not np.isfinite(sum(numbers, ())).all():
            raise ValueError("nan or inf")
        if any(one.expected_dice and len(one.calibration) != LEVELS for one in found):
            raise ValueError(f"a calibration of other than {LEVELS} levels")
    except KeyError as error:
        raise ConfigError(f"{path}: has no {error}, an older version wrote it: {todo}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(f"{path}: holds no thresholds ({why}): {todo}") from error
    return found
