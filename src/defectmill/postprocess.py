"""From probability maps to masks: a threshold and a minimum area for each class.

Both are chosen on held-out folds only, by the score that the competition gives.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.labels import COLUMNS
from defectmill.rle import mask_to_rle
from defectmill.scores import dice_from_counts, pooled_dice


@dataclass(frozen=True)
class Rule:
    """What a blob must have to be a defect of one class.

    threshold: probability its pixels exceed. peak: probability its best pixel reaches.
    minimum_area: pixels of the picture. A threshold of 1 predicts nothing.
    """

    threshold: float
    peak: float
    minimum_area: int


def make_masks(probs: np.ndarray, rules: Sequence[Rule], exclusive: bool) -> np.ndarray:
    """Turn probabilities into masks.

    Args:
        probs: (H, W, C) float in [0, 1].
        exclusive: of several classes at a pixel only the likeliest may stand.
    Returns:
        (H, W, C) uint8 in {0, 1}.
    Raises:
        ValueError: not one rule a class.
    """
    probs = keep_likeliest(probs) if exclusive else probs
    masks = np.zeros(probs.shape, np.uint8)
    for channel, rule in zip(range(probs.shape[2]), rules, strict=True):
        masks[:, :, channel] = select_blobs(probs[:, :, channel], rule)
    return masks


def keep_likeliest(probs: np.ndarray) -> np.ndarray:
    """Set every class but the likeliest to 0 at each pixel: (H, W, C)."""
    best = probs.argmax(axis=-1, keepdims=True)
    return np.where(np.arange(probs.shape[-1]) == best, probs, 0)


def select_blobs(probs: np.ndarray, rule: Rule) -> np.ndarray:
    """Keep the blobs (8-connected) of one class that obey the rule: (H, W) bool."""
    blobs, areas, peaks = _find_blobs(probs, rule.threshold)
    keep = np.concatenate([[False], (areas >= rule.minimum_area) & (peaks >= rule.peak)])
    return keep[blobs]


def choose_rules(
    maps: Iterable[tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float],
    minimum_areas: Sequence[int],
    n_classes: int,
    exclusive: bool,
) -> tuple[list[Rule], pd.DataFrame]:
    """Choose the rule of each class on held-out pictures.

    A class of its own: its mean Dice over the images (the score) plus its pooled Dice. The score
    alone is nearly blind to a rare class: on 3 % of the images, one false alarm costs what one
    found defect gains. A rule that beats the empty answer in neither is not chosen.

    Args:
        maps: (probs, truth), both (H, W, C), of held-out pictures, read once.
    Returns:
        one Rule a class, and the table of all that was tried: ClassId, threshold, peak,
        minimum_area, mean_dice, pooled_dice.
    Raises:
        ValueError: there are no held-out pictures.
    """
    grid = [
        Rule(float(t), float(p), int(a))
        for t in thresholds
        for p in sorted({t, *(q for q in thresholds if q > t)})
        for a in minimum_areas
    ]
    counts: list[list[np.ndarray]] = []
    for probs, truth in maps:
        probs = keep_likeliest(probs) if exclusive else probs
        counts.append([_count_grid(probs[..., c], truth[..., c], grid) for c in range(n_classes)])
    if not counts:
        raise ValueError("no held-out pictures to choose thresholds on")
    table = np.array(counts)  # (N, C, rules, 3)
    both, true, guessed = np.moveaxis(table, -1, 0)
    mean = dice_from_counts(both, true, guessed).mean(axis=0)
    pooled = np.nan_to_num(
        np.stack([pooled_dice(both[:, c], true[:, c], guessed[:, c]) for c in range(n_classes)])
    )
    empty = (true[:, :, 0] == 0).mean(axis=0)
    rules, rows = [], []
    for c in range(n_classes):
        best = int(np.argmax(mean[c] + pooled[c]))
        helps = mean[c, best] + pooled[c, best] > empty[c]
        rules.append(grid[best] if helps else Rule(1.0, 1.0, 0))
        rows += [
            {"ClassId": c + 1, **asdict(rule), "mean_dice": m, "pooled_dice": p}
            for rule, m, p in zip(grid, mean[c], pooled[c], strict=True)
        ]
    return rules, pd.DataFrame(rows)


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


def masks_to_labels(masks: Iterable[tuple[str, np.ndarray]]) -> pd.DataFrame:
    """Write (image id, (H, W, C) masks) pairs as a label table with a row for every class."""
    rows = [
        (image_id, channel + 1, mask_to_rle(mask[:, :, channel]))
        for image_id, mask in masks
        for channel in range(mask.shape[2])
    ]
    labels = pd.DataFrame(rows, columns=COLUMNS[:3])
    labels["hasMask"] = labels["EncodedPixels"] != ""
    return labels


def _find_blobs(probs: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blobs above a threshold: numbered picture (0 = none), areas, highest probabilities."""
    above = probs > threshold
    n, blobs = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    areas = np.bincount(blobs[above], minlength=n)[1:]
    peaks = np.zeros(n, probs.dtype)
    np.maximum.at(peaks, blobs[above], probs[above])
    return blobs, areas, peaks[1:]


def _count_grid(probs: np.ndarray, truth: np.ndarray, grid: Sequence[Rule]) -> np.ndarray:
    """Shared, true and predicted pixels of one (H, W) map under each rule: (rules, 3) int64."""
    n_true = int(truth.sum())
    found = {}
    for threshold in {rule.threshold for rule in grid}:
        blobs, areas, peaks = _find_blobs(probs, threshold)
        shared = np.bincount(blobs[truth > 0], minlength=len(areas) + 1)[1:]
        found[threshold] = areas, peaks, shared
    counts = np.zeros((len(grid), 3), np.int64)
    for row, rule in enumerate(grid):
        areas, peaks, shared = found[rule.threshold]
        keep = (areas >= rule.minimum_area) & (peaks >= rule.peak)
        counts[row] = shared[keep].sum(), n_true, areas[keep].sum()
    return counts
