"""Rules chosen on the held-out fold: what a blob must have to be a defect of its class."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.postprocess import Rule, find_blobs, keep_likeliest
from defectmill.rle import rle_area
from defectmill.scores import dice_from_counts, pooled_dice

# With fewer held-out pictures than this, a class is judged more by the others than by itself.
PRIOR = 10


def typical_areas(labels: pd.DataFrame, n_classes: int) -> list[float]:
    """Median area of the masks of each class, in pixels; 0 for a class without a mask."""
    masks = labels[labels["hasMask"]]
    medians = masks["EncodedPixels"].map(rle_area).groupby(masks["ClassId"]).median()
    return [float(medians.get(c, 0)) for c in range(1, n_classes + 1)]


def choose_rules(
    maps: Iterable[tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float],
    area_shares: Sequence[float],
    areas: Sequence[float],
    exclusive: bool,
) -> tuple[list[Rule], pd.DataFrame]:
    """Choose the rule of each class on held-out pictures.

    The gain of a rule is what it adds to the score of the empty answer, for each image that has
    the class (a false alarm costs 1, a found defect earns its Dice), plus its pooled Dice, which
    a large defect rules. Five pictures of a class do not carry a choice among hundreds of rules,
    so its gain is drawn towards the mean gain of all classes (partial pooling, as of `PRIOR` more
    pictures); counted by image with the class, and with minimum areas in shares of its typical
    mask, rules of rare and of common classes compare. No gain: the class stays empty.

    Args:
        maps: (probs, truth), both (H, W, C), of held-out pictures, read once.
        thresholds: also tried as peaks.
        area_shares: minimum areas in shares of `areas`.
        areas: of a typical mask of each class, in pixels.
    Returns:
        one Rule a class, and the table of all that was tried: ClassId, threshold, peak,
        area_share, minimum_area, mean_dice, pooled_dice, gain.
    Raises:
        ValueError: there are no held-out pictures.
    """
    grid = [(t, p, a) for t, p, a in product(thresholds, thresholds, area_shares) if p >= t]
    rules = [[Rule(float(t), float(p), round(a * area)) for t, p, a in grid] for area in areas]
    counts: list[list[np.ndarray]] = []
    for probs, truth in maps:
        probs = keep_likeliest(probs) if exclusive else probs
        counts.append(
            [_count_pixels(probs[..., c], truth[..., c], mine) for c, mine in enumerate(rules)]
        )
    if not counts:
        raise ValueError("no held-out pictures to choose thresholds on")
    both, true, guessed = np.moveaxis(np.array(counts), -1, 0)  # each (N, C, rules)
    mean = dice_from_counts(both, true, guessed).mean(axis=0)
    pooled = np.nan_to_num([pooled_dice(*(x[:, c] for x in (both, true, guessed)))
                            for c in range(len(areas))])  # fmt: skip
    n_true = (true[:, :, :1] > 0).sum(axis=0)
    added = mean * len(counts) - (len(counts) - n_true)
    gain = added / np.maximum(n_true, 1) + pooled
    drawn = (n_true * gain + PRIOR * gain.mean(axis=0)) / (n_true + PRIOR)
    best = drawn.argmax(axis=1)
    chosen = [
        mine[b] if gains[b] > 0 else Rule(1.0, 1.0, 0)
        for mine, gains, b in zip(rules, drawn, best, strict=True)
    ]
    tried = [
        {"ClassId": c + 1, **asdict(rule), "area_share": float(share), "mean_dice": mean[c, n],
         "pooled_dice": pooled[c, n], "gain": drawn[c, n]}
        for c, mine in enumerate(rules)
        for n, (rule, (_, _, share)) in enumerate(zip(mine, grid, strict=True))
    ]  # fmt: skip
    return chosen, pd.DataFrame(tried)


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


def _count_pixels(probs: np.ndarray, truth: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
    """Shared, true and predicted pixels of one (H, W) map under each rule: (rules, 3) int64."""
    n_true = int(truth.sum())
    found = {}
    for threshold in {rule.threshold for rule in rules}:
        blobs, areas, peaks = find_blobs(probs, threshold)
        shared = np.bincount(blobs[truth > 0], minlength=len(areas) + 1)[1:]
        found[threshold] = areas, peaks, shared
    counts = np.zeros((len(rules), 3), np.int64)
    for row, rule in enumerate(rules):
        areas, peaks, shared = found[rule.threshold]
        keep = (areas >= rule.minimum_area) & (peaks >= rule.peak)
        counts[row] = shared[keep].sum(), n_true, areas[keep].sum()
    return counts
