"""Rules chosen on the held-out fold: what a blob must have to be a defect of its class."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from defectmill.cards import Card
from defectmill.postprocess import Rule
from defectmill.rle import rle_area
from defectmill.scores import dice_from_counts, pooled_dice
from defectmill.trials import Trials

# With fewer held-out pictures than this, a class is judged more by the others than by itself.
PRIOR = 10
NESTED = 5
NOTHING = Rule(1.0, 1.0, 0)


def typical_areas(labels: pd.DataFrame, n_classes: int) -> list[float]:
    """Median area of the masks of each class, in pixels; 0 for a class without a mask."""
    masks = labels[labels["hasMask"]]
    medians = masks["EncodedPixels"].map(rle_area).groupby(masks["ClassId"]).median()
    return [float(medians.get(c, 0)) for c in range(1, n_classes + 1)]


def choose_rules(trials: Trials) -> tuple[list[Rule], pd.DataFrame]:
    """Choose the rule of each class.

    The gain of a rule is what it adds to the score of the empty answer, for each image that has
    the class (a false alarm costs 1, a found defect earns its Dice), plus its pooled Dice, which
    a large defect rules. Five pictures of a class do not carry a choice among hundreds of rules,
    so its gain is drawn towards the mean gain of all classes (partial pooling, as of `PRIOR` more
    pictures); counted by image with the class, and with minimum areas in shares of its typical
    mask, rules of rare and of common classes compare. No gain: the class stays empty.

    Returns:
        one Rule a class, and the table of all that was tried: ClassId, threshold, peak,
        area_share, minimum_area, mean_dice, pooled_dice, gain.
    """
    mean, pooled, gain = _judge(trials.counts)
    chosen = [
        NOTHING if best is None else mine[best]
        for mine, best in zip(trials.rules, _best(gain), strict=True)
    ]
    tried = [
        {"ClassId": c + 1, **asdict(rule), "area_share": share, "mean_dice": mean[c, n],
         "pooled_dice": pooled[c, n], "gain": gain[c, n]}
        for c, mine in enumerate(trials.rules)
        for n, (rule, share) in enumerate(zip(mine, trials.shares, strict=True))
    ]  # fmt: skip
    return chosen, pd.DataFrame(tried)


def nested_counts(trials: Trials, groups: Sequence[int]) -> np.ndarray:
    """Count what rules do that were chosen on other groups than the picture's own.

    The same pictures tell which rule is best and how good it is: that flatters. Here every
    fifth of the groups is judged by the rules that the rest would choose.

    Args:
        groups: of the pictures, in the order of the trials.
    Returns:
        (N, C, 3) shared, true and predicted pixels; of pictures that are all of one group, of
        the answer that says nothing: there are no others to choose rules on.
    """
    counts = np.zeros((*trials.counts.shape[:2], 3), np.int64)
    counts[..., 1] = trials.counts[:, :, 0, 1]
    parts = min(NESTED, len(set(groups)))
    if parts < 2:
        return counts
    for rest, judged in GroupKFold(parts).split(trials.counts, groups=groups):
        for channel, best in enumerate(_best(_judge(trials.counts[rest])[2])):
            if best is not None:
                counts[judged, channel] = trials.counts[judged, channel, best]
    return counts


def _judge(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean Dice, pooled Dice and drawn gain of each rule: (C, R) each."""
    both, true, guessed = np.moveaxis(counts, -1, 0)
    mean = dice_from_counts(both, true, guessed).mean(axis=0)
    pooled = np.nan_to_num([pooled_dice(*(x[:, c] for x in (both, true, guessed)))
                            for c in range(counts.shape[1])])  # fmt: skip
    n_true = (true[:, :, :1] > 0).sum(axis=0)
    added = mean * len(counts) - (len(counts) - n_true)
    gain = added / np.maximum(n_true, 1) + pooled
    # A class of one picture and sixty false alarms must not speak for all, nor an absent one.
    seen = n_true[:, 0] > 0
    prior = np.maximum(gain[seen], -1).mean(axis=0) if seen.any() else gain.mean(axis=0)
    drawn = (added + n_true * pooled + PRIOR * prior) / (n_true + PRIOR)
    # An absent class has false alarms only: one is too many.
    return mean, pooled, np.where(n_true > 0, drawn, np.where(added < 0, added, prior))


def _best(gain: np.ndarray) -> list[int | None]:
    """Place of the best rule of each class; None where no rule gains."""
    places = gain.argmax(axis=1)
    return [int(p) if gains[p] > 0 else None for gains, p in zip(gain, places, strict=True)]


def write_rules(rules: Sequence[Rule], card: Card, path: Path) -> None:
    """Write thresholds.json: for each class id its name and rule."""
    chosen = {
        kind.id: {"name": kind.name, **asdict(rule)}
        for kind, rule in zip(card.classes, rules, strict=True)
    }
    path.write_text(json.dumps(chosen, indent=1) + "\n")


def read_rules(path: Path) -> list[Rule]:
    """Read thresholds.json back, in the order of the channels."""
    chosen = json.loads(path.read_text())
    return [
        Rule(r["threshold"], r["peak"], r["minimum_area"])
        for _, r in sorted(chosen.items(), key=lambda item: int(item[0]))
    ]
