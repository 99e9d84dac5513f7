"""Trials: what each rule of a grid would do to held-out pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from defectmill.postprocess import Rule, find_blobs, keep_likeliest


@dataclass(frozen=True)
class Trials:
    """What every rule of a grid would do to the held-out pictures.

    rules: for each class its R rules; shares: (R,) their minimum areas in shares of the class's
    typical mask. counts: (N, C, R, 3) shared, true and predicted pixels.
    """

    rules: list[list[Rule]]
    shares: list[float]
    counts: np.ndarray


def try_rules(
    maps: Iterable[tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float],
    area_shares: Sequence[float],
    areas: Sequence[float],
    exclusive: bool,
) -> Trials:
    """Count what each rule of a grid does to held-out pictures.

    Args:
        maps: (probs, truth), both (H, W, C), of held-out pictures, read once.
        thresholds: also tried as peaks.
        area_shares: minimum areas in shares of `areas`.
        areas: of a typical mask of each class, in pixels.
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
    return Trials(rules, [float(share) for _, _, share in grid], np.array(counts))


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
