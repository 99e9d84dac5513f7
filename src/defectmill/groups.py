"""Groups: images that show the same part.

They come from file names, byte copies and perceptual near-duplicates; augmented copies stay with
their picture.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from defectmill.cards import Card
from defectmill.shots import Shots

COPY_MARK = "__"


def find_groups(shots: Shots, card: Card) -> np.ndarray:
    """Number the groups of images that must stay together.

    Args:
        shots: of the files.
        card: its file-name rule, and how like near-duplicates are.
    Returns:
        (N,) int64, numbered in the order of first appearance.
    """
    ids, digests = (shots.table[column].tolist() for column in ("ImageId", "digest"))
    n = len(ids)
    pairs = [
        _same_part(ids, card), _copies(ids), _chain_equal(digests, range(n)),
        _alike(shots.prints, card.near_duplicate),
    ]  # fmt: skip
    left, right = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    return pd.factorize(connected_components(graph, directed=False)[1])[0]


def copy_name(move: str, image_id: str) -> str:
    """Name an augmented copy, so that its group is its picture's."""
    return f"{move}{COPY_MARK}{image_id}.png"


def _same_part(image_ids: Sequence[str], card: Card) -> np.ndarray:
    """(2, P) index pairs of images that the file-name rule joins."""
    if not card.group_pattern:
        return np.zeros((2, 0), np.int64)
    found = [(re.search(card.group_pattern, i), n) for n, i in enumerate(image_ids)]
    named = [(match[1], n) for match, n in found if match]
    if card.group_gap:
        named = sorted((int(part), n) for part, n in named)
        return _pair_up((a[1], b[1]) for a, b in pairwise(named) if b[0] - a[0] <= card.group_gap)
    return _chain_equal([part for part, _ in named], [n for _, n in named])


def _copies(image_ids: Sequence[str]) -> np.ndarray:
    """(2, P) index pairs of augmented copies and their pictures."""
    places = {image_id: n for n, image_id in enumerate(image_ids)}
    parents = (i.partition(COPY_MARK)[2].removesuffix(".png") for i in image_ids)
    return _pair_up((places[p], n) for n, p in enumerate(parents) if p in places)


def _alike(prints: np.ndarray, threshold: float, block: int = 1024) -> np.ndarray:
    """(2, P) pairs above the threshold, in blocks: N x N never stands in memory."""
    found = []
    for top in range(0, len(prints), block):
        likeness = prints[top : top + block] @ prints.T
        left, right = np.nonzero(likeness > threshold)
        found.append(np.stack([left + top, right]))
    return np.concatenate(found, axis=1)


def find_likest(prints: np.ndarray, others: np.ndarray, block: int = 1024
                ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Find the likest of `others`, (M, D), for each of `prints`, (N, D).

    Returns:
        (N,) places in `others` and (N,) likeness in -1..1.
    """
    places, likeness = np.zeros(len(prints), np.int64), np.zeros(len(prints), np.float32)
    for top in range(0, len(prints) if len(others) else 0, block):
        alike = prints[top : top + block] @ others.T
        places[top : top + block] = alike.argmax(axis=1)
        likeness[top : top + block] = alike.max(axis=1)
    return places, likeness


def likest_pairs(
    images: pd.DataFrame, prints: np.ndarray, card: Card, n: int = 4, block: int = 512
) -> pd.DataFrame:  # fmt: skip
    """Find the pairs on which the threshold turned, to be looked at.

    Args:
        images: image table with groups; prints: (N, D), in its order.
    Returns:
        Up to 2n rows, the nearest to the threshold first on each side: side ("joined": likeness
        above it, and no file name joins them; "apart": below it, in different groups), likeness,
        first, second (image ids).
    """
    ids, groups = images["ImageId"].to_numpy(), images["group"].to_numpy()
    left, right = np.concatenate([_same_part(ids, card), _copies(ids)], axis=1)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(ids), len(ids)))
    parts = connected_components(graph, directed=False)[1]
    found = []
    for top in range(0, len(ids), block):
        likeness = prints[top : top + block] @ prints.T
        rows = np.arange(top, top + len(likeness))[:, None]
        later, above = np.arange(len(ids)) > rows, likeness > card.near_duplicate
        sides = {
            "joined": later & above & (parts[rows] != parts),
            "apart": later & ~above & (groups[rows] != groups),
        }
        for side, fits in sides.items():
            distance = np.where(fits, np.abs(likeness - card.near_duplicate), np.inf).ravel()
            nearest = np.argpartition(distance, min(n, distance.size - 1))[:n]
            for place in nearest[np.isfinite(distance[nearest])]:
                row, column = divmod(int(place), len(ids))
                found.append((side, float(likeness[row, column]), ids[top + row], ids[column]))
    pairs = pd.DataFrame(found, columns=["side", "likeness", "first", "second"])
    nearest = (pairs["likeness"] - card.near_duplicate).abs().sort_values(kind="stable").index
    pairs = pairs.loc[nearest].groupby("side", sort=False).head(n)
    return pairs.sort_values("side", ascending=False, kind="stable").reset_index(drop=True)


def _chain_equal(keys: Sequence[str], positions: Sequence[int]) -> np.ndarray:
    first: dict[str, int] = {}
    return _pair_up((first.setdefault(k, n), n) for k, n in zip(keys, positions, strict=True))


def _pair_up(pairs) -> np.ndarray:
    return np.array(list(pairs), np.int64).reshape(-1, 2).T
