"""Ceilings: what no model can reach where copies of one picture carry different labels.

It gives the copies one answer. Of all answers to two labels their union has the best mean Dice:
compared with every answer to all labels of up to 15 pixels each alone and 15 shared.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from defectmill.rle import intersect_rles, rle_area
from defectmill.scores import dice_from_counts

Runs = Mapping[int, str]


def dice_between(first: Runs, second: Runs) -> float:
    """Dice of two labels of one picture, {class id: rle}: mean over the classes that either has."""
    counts = [_count(first, second, c) for c in sorted({*first, *second})]
    return float(np.mean([dice_from_counts(*c) for c in counts])) if counts else 1.0


def best_score(labels: Sequence[Runs], n_classes: int) -> float:
    """Find the best mean score that one answer to these labels can have.

    Args:
        labels: of the copies of one picture, {class id: rle} each, two or more.
    Returns:
        The competition's score, absent classes included. Exact for two copies; of more the mean
        over their pairs, which no answer exceeds.
    """
    kinds = Counter(tuple(sorted(runs.items())) for runs in labels)
    scores = [(1.0, n * (n - 1) / 2) for n in kinds.values()]  # pairs that agree
    for (one, n), (two, m) in combinations(kinds.items(), 2):
        best = [_best_of_two(dict(one), dict(two), c) for c in range(1, n_classes + 1)]
        scores.append((np.mean(best), n * m))
    values, pairs = zip(*scores, strict=True)
    return float(np.average(values, weights=pairs))


def _best_of_two(first: Runs, second: Runs, class_id: int) -> float:
    both, one, two = _count(first, second, class_id)
    union, areas = one + two - both, np.array([one, two])
    return float(dice_from_counts(areas, areas, union).mean())


def _count(first: Runs, second: Runs, class_id: int) -> tuple[int, int, int]:
    one, two = first.get(class_id, ""), second.get(class_id, "")
    return intersect_rles(one, two), rle_area(one), rle_area(two)
