"""Groups and folds: images that show the same part never stand on both sides of a split.

Groups come from file names, byte copies and perceptual near-duplicates; augmented copies stay
with their picture.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from defectmill.cards import Card
from defectmill.images import picture_print, read_image

NEAR_DUPLICATE = 0.9
COPY_MARK = "__"


def find_groups(
    folder: Path, image_ids: Sequence[str], card: Card, near_duplicate: float = NEAR_DUPLICATE
) -> np.ndarray:
    """Number the groups of images that must stay together.

    Args:
        folder: where the files are.
        card: its file-name rule joins images of one part.
        near_duplicate: pictures whose fine structure correlates above this are joined. 0.9:
            on 1,212 magnetic tiles one pair of different parts in 10,000 reaches 0.8.
    Returns:
        (N,) int64, numbered in the order of first appearance.
    """
    prints = np.stack([picture_print(read_image(folder / i)) for i in image_ids])
    pairs = [
        _same_part(image_ids, card), _copies(image_ids), _same_bytes(folder, image_ids),
        _alike(prints, near_duplicate),
    ]  # fmt: skip
    left, right = np.concatenate(pairs, axis=1)
    n = len(image_ids)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    return pd.factorize(connected_components(graph, directed=False)[1])[0]


def copy_name(move: str, image_id: str) -> str:
    """Name an augmented copy, so that its group is its picture's."""
    return f"{move}{COPY_MARK}{image_id}.png"


def assign_folds(images: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Assign a fold to every image, by group, each fold with its share of every class.

    Args:
        images: image table with `group` and `classes`.
    Returns:
        (N,) int64 in 0..n_folds-1.
    Raises:
        ValueError: fewer groups than folds.
    """
    n_groups = images["group"].nunique()
    if n_groups < n_folds:
        raise ValueError(f"{n_folds} folds need as many groups; there are {n_groups}")
    # Stratified by the rarest class of an image: a rare class must reach every fold.
    counts = images["classes"].str.split().explode().value_counts()
    strata = images["classes"].map(
        lambda classes: min(classes.split(), key=lambda c: counts[c]) if classes else "clean"
    )
    if strata.value_counts().max() < n_folds:
        strata[:] = "any"  # too few of each to share out
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(images), -1)
    with warnings.catch_warnings():
        # A class with fewer images than folds is reported by the audit.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(images, strata, images["group"])):
            folds[held_out] = fold
    return folds


def report_leaks(images: pd.DataFrame, n_folds: int, seed: int) -> pd.DataFrame:
    """Count held-out images whose group also trains: under a plain random split and ours."""
    plain = np.random.default_rng(seed).permutation(len(images)) % n_folds
    rows = []
    for name, folds in (("random split", plain), ("by group", images["fold"].to_numpy())):
        leaking = sum(
            int(images["group"][folds == k].isin(images["group"][folds != k]).sum())
            for k in range(n_folds)
        )
        rows.append((name, len(images), leaking, leaking / len(images)))
    return pd.DataFrame(rows, columns=["split", "images", "with a twin in training", "share"])


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


def _same_bytes(folder: Path, image_ids: Sequence[str]) -> np.ndarray:
    digests = [hashlib.sha256((folder / i).read_bytes()).hexdigest() for i in image_ids]
    return _chain_equal(digests, range(len(digests)))


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
    images: pd.DataFrame, prints: np.ndarray, card: Card, threshold: float = NEAR_DUPLICATE,
    n: int = 4, block: int = 512,
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
        later, above = np.arange(len(ids)) > rows, likeness > threshold
        sides = {
            "joined": later & above & (parts[rows] != parts),
            "apart": later & ~above & (groups[rows] != groups),
        }
        for side, fits in sides.items():
            distance = np.where(fits, np.abs(likeness - threshold), np.inf).ravel()
            nearest = np.argpartition(distance, min(n, distance.size - 1))[:n]
            for place in nearest[np.isfinite(distance[nearest])]:
                row, column = divmod(int(place), len(ids))
                found.append((side, float(likeness[row, column]), ids[top + row], ids[column]))
    pairs = pd.DataFrame(found, columns=["side", "likeness", "first", "second"])
    nearest = (pairs["likeness"] - threshold).abs().sort_values(kind="stable").index
    pairs = pairs.loc[nearest].groupby("side", sort=False).head(n)
    return pairs.sort_values("side", ascending=False, kind="stable").reset_index(drop=True)


def _chain_equal(keys: Sequence[str], positions: Sequence[int]) -> np.ndarray:
    first: dict[str, int] = {}
    return _pair_up((first.setdefault(k, n), n) for k, n in zip(keys, positions, strict=True))


def _pair_up(pairs) -> np.ndarray:
    return np.array(list(pairs), np.int64).reshape(-1, 2).T
