"""Similarity of fingerprints: block by block, so that neither time nor memory grow with all pairs of images.

Fingerprints are (N, D) float32 of norm 1 or 0; the similarity of two is their cosine, -1..1.
"""

from collections.abc import Iterator

import numpy as np
from threadpoolctl import threadpool_limits

BLOCK = 2**25  # bytes of similarities at a time
MOST = 20_000  # images of which all pairs are compared
PART = 512  # images of more that are compared with each other at a time
TABLES, WAYS = 16, 256  # how often they are sorted, and by how many directions
Block = tuple[np.ndarray, np.ndarray, np.ndarray]


def compare(first: np.ndarray, second: np.ndarray | None = None) -> Iterator[Block]:
    """Yield similarities: places of rows in `first`, of columns in `second`, and the (rows, columns) block.

    Without `second` the images of `first` are compared with each other: every pair stands in a block at
    least once, in one of its two orders, and images with themselves.

    Of more than MOST images (MOST x MOST pairs of two sets) not all pairs are compared, which would take
    hours, but those that lie together when the images are sorted by cross-polytope hashes (Andoni et al.
    2015, arXiv:1509.02897), TABLES times: time grows as N log N. Of 200,000 images this found every pair of
    similarity 0.9, 99 % of those of 0.8 and 65 % of those of 0.5, and always the same ones.
    """
    others = first if second is None else second
    if len(first) * len(others) > MOST**2:
        with threadpool_limits(1, "blas"):  # products so small wait for a second thread longer than they take
            for rows, columns in _sort_together(first, second):
                some = first[rows]
                yield rows, columns, some @ (some if second is None else second[columns]).T
        return
    step = max(1, BLOCK // (4 * max(1, len(others))))
    for top in range(0, len(first), step):
        left = top if second is None else 0
        block = first[top : top + step] @ others[left:].T
        yield np.arange(top, top + len(block)), np.arange(left, len(others)), block


def nearest_neighbours(queries: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the most similar of M candidates, (M, D), for each of N queries, (N, D); the first of equals.

    Returns: (N,) places among the candidates and (N,) similarity in -1..1; zeros without candidates.
    """
    places, best = np.zeros(len(queries), np.int64), np.full(len(queries), -np.inf, np.float32)
    if len(candidates):
        for rows, columns, block in compare(queries, candidates):
            _keep_better(places, best, rows, columns, block)
    return places, np.where(np.isfinite(best), best, 0)


def nearest_outside(fingerprints: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each image the most similar one of another part, the first of equals, in several splits.

    Args:
        fingerprints: (N, D). parts: (S, N), the part of each image in each of S splits.
    Returns:
        (S, N) places and (S, N) similarity; zeros where there is no other part.
    """
    places, best = np.zeros(parts.shape, np.int64), np.full(parts.shape, -np.inf, np.float32)
    for rows, columns, block in compare(fingerprints):
        for split, place, kept in zip(parts, places, best, strict=True):
            others = np.where(split[rows][:, None] != split[columns], block, -np.inf)
            _keep_better(place, kept, rows, columns, others)
            _keep_better(place, kept, columns, rows, others.T)
    return places, np.where(np.isfinite(best), best, 0)


def _keep_better(
    places: np.ndarray, best: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: np.ndarray
) -> None:
    """Put into `places` and `best` what a block holds of greater similarity for its rows."""
    highest = block.max(axis=1)
    is_better = highest > best[rows]
    places[rows[is_better]] = columns[block[is_better].argmax(axis=1)]
    best[rows[is_better]] = highest[is_better]


def _sort_together(first: np.ndarray, second: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places in `first` and in `second` (None: `first` again) of images that may be alike."""
    sets = [first] if second is None else [first, second]
    n = sum(map(len, sets))
    n_keys = int(np.ceil(np.log(n / PART) / np.log(2 * WAYS)))
    rng = np.random.default_rng(0)
    for _ in range(TABLES):
        keys = []
        for _ in range(n_keys):
            directions = rng.standard_normal((first.shape[1], WAYS), np.float32)
            shares = np.concatenate([some @ directions for some in sets])
            shares -= shares.mean(axis=0)  # what all images have in common tells none apart
            far = np.abs(shares).argmax(axis=1)
            keys.append(2 * far + (shares[np.arange(n), far] < 0))
        order = np.lexsort(keys)
        for part in np.array_split(order, -(-n // PART)):
            part.sort()
            rows = part[: np.searchsorted(part, len(first))]
            columns = rows if second is None else part[len(rows) :] - len(first)
            if len(rows) and len(columns):
                yield rows, columns
