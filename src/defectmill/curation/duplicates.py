"""Duplicates: which images show the same part, by file names, bytes and fine structure; each is read once."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import scipy  # loads its parts where they are used: a quarter of a second less for those who only look

from defectmill.curation.similarity import compare, nearest_outside
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError, end_after, read_file, write_atomically
from defectmill.images import decode_image, original_of, read_depth, read_orientation, resize_image

SIGNATURES = {b"\xff\xd8": {".jpg", ".jpeg"}, b"\x89P": {".png"}, b"BM": {".bmp"}}
COLUMNS = {"ImageId": str, "height": int, "width": int, "digest": str, "blank": bool, "wrong_suffix": bool}
COLUMNS |= {"bits": int, "orientation": int}
SIDE = 64  # pixels of the small image behind a fingerprint
PATIENCE = 20  # seconds for a pattern and all names of a dataset
PAIRS = 2**20  # similar pairs that are kept at a time: pictures of one background are all alike


class Scan(NamedTuple):
    """What is known of N image files.

    table: ImageId, height, width, digest (SHA-256 of the bytes), blank (all pixels have one value),
    wrong_suffix (the bytes are of another format), bits (a channel, that its brightest pixel needs),
    orientation (its tag; 1: as stored). fingerprints: (N, 4096) float32, see `fingerprint`.
    """

    table: pd.DataFrame
    fingerprints: np.ndarray

    def select(self, image_ids: Iterable[str]) -> "Scan":
        """The rows of some of the images, in the order given."""
        wanted = pd.Index(image_ids)
        places = pd.Index(self.table["ImageId"]).get_indexer(wanted)
        if (places < 0).any():
            raise DefectmillError(f"{wanted[places < 0][0]}: was not there when the images were scanned")
        return Scan(self.table.iloc[places].reset_index(drop=True), self.fingerprints[places])


def scan_images(folder: Path, image_ids: Sequence[str]) -> Scan:
    """Read every file once; ImageError names one that is no image."""

    fingerprints = np.empty((len(image_ids), SIDE * SIDE), np.float32)

    def scan(place: int) -> tuple:
        image_id = image_ids[place]
        data, suffix = read_file(folder / image_id), Path(image_id).suffix.lower()
        image = decode_image(np.frombuffer(data, np.uint8), folder / image_id)
        flags = image.min() == image.max(), suffix not in SIGNATURES.get(data[:2], {suffix})
        tags = (
            read_depth(np.frombuffer(data, np.uint8), folder / image_id),
            read_orientation(folder / image_id, data),
        )
        digest = hashlib.sha256(data).hexdigest()
        fingerprints[place] = fingerprint(image)
        return image_id, *image.shape[:2], digest, *flags, *tags

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(scan, range(len(image_ids))))
    return Scan(pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS), fingerprints)


def fingerprint(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Summarise the fine structure of an image; the cosine of two fingerprints is their similarity.

    The slow lighting is taken away (Gaussian, 2 pixels of `side`): it makes different parts similar.
    Source: measured on the magnetic tiles, see dataset_infos/magnetic-tile.yml.

    Args:
        image: (H, W, C) uint8; the first channel counts. It is shrunk to (side, side) first.
    Returns:
        (side * side,) float32 of mean 0 and norm 1; zeros for an image without structure.
    """
    small = resize_image(image[:, :, :1], (side, side))[:, :, 0].astype(np.float32)
    small -= cv2.GaussianBlur(small, (0, 0), 2)
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    return (small / norm if norm > 0.05 * side else np.zeros_like(small)).ravel()


def write_scans(path: Path, train: Scan, test: Scan) -> None:
    """Keep two scans in one .npz file (output/<experiment>/scans.npz), fingerprints rounded to float16."""
    arrays: dict[str, Any] = {}
    for part, scan in (("train", train), ("test", test)):
        arrays |= {f"{part} {column}": scan.table[column].to_numpy(kind) for column, kind in COLUMNS.items()}
        arrays[f"{part} fingerprints"] = scan.fingerprints.astype(np.float16)
    with write_atomically(path) as temporary:
        np.savez(temporary, **arrays)


def read_scans(path: Path) -> tuple[Scan, Scan]:
    """Read the scans of training and test images; rounding moves a similarity by less than 0.0001."""
    if not path.is_file():
        raise DefectmillError(f"{path}: no such file; `make labels` writes it")
    scans = []
    with np.load(path, allow_pickle=False) as kept:
        for part in ("train", "test"):
            table = pd.DataFrame({column: kept[f"{part} {column}"] for column in COLUMNS})
            scans.append(Scan(table, kept[f"{part} fingerprints"].astype(np.float32)))
    return scans[0], scans[1]


def find_groups(scan: Scan, info: DatasetInfo) -> np.ndarray:
    """Number the groups of images that must stay together: (N,) int64, in the order of first appearance.

    Images are joined by file names, as augmented copies, by equal bytes and by a similarity above
    `info.near_duplicate`, over a third image too.
    """
    pairs = [_join_by_name(scan.table["ImageId"], info), _join_equal(scan.table["digest"])]
    groups, similar, radius = (
        _number_groups(pairs, len(scan.table)),
        list[np.ndarray](),
        1 - info.near_duplicate,
    )
    for rows, columns, similarities in compare(scan.fingerprints):
        first, second = np.nonzero(1 - similarities <= radius)
        similar.append(np.stack([groups[rows[first]], groups[columns[second]]]))
        if sum(part.shape[1] for part in similar) > PAIRS:
            groups, similar = _number_groups(similar, len(groups))[groups], []
    return _number_groups([*similar, np.zeros((2, 0), int)], len(groups))[groups]


def refuse_one_group(groups: np.ndarray, scan: Scan, info: DatasetInfo) -> None:
    """Raise DefectmillError where all images are of one group, and name the setting that keeps them apart.

    The pictures of a fixed camera are such: what is the same in all of them outweighs the part in each.
    """
    if len(set(groups)) > 1:
        return
    offence = f"{info.name}: all {len(groups)} images count as one part, and a part is never split"
    names, first = scan.table["ImageId"], ~scan.table["digest"].duplicated().to_numpy()
    by_name = _number_groups([_join_by_name(names, info)], len(names))
    if not by_name.any() or first.sum() < 2:
        why = f"group_pattern {info.group_pattern!r} joins them" if first.sum() > 1 else "of equal bytes"
        raise DefectmillError(f"{offence}{f' ({why})' * (len(names) > 1)}: nothing is left to validate on")
    likeness = nearest_outside(scan.fingerprints[first], np.arange(first.sum())[None])[1]
    raise DefectmillError(
        f"{offence}: nothing is left to validate on. The nearest of each is alike by {likeness.min():.3f} to "
        f"{likeness.max():.3f}, above near_duplicate, {info.near_duplicate}: if they show several parts "
        f"before one background, set it higher in input/{info.name}/info.json (or dataset.json)"
    )


def pairs_at_threshold(
    images: pd.DataFrame, fingerprints: np.ndarray, info: DatasetInfo, n: int = 4
) -> pd.DataFrame:
    """Find the pairs just above and just below `info.near_duplicate`, to be looked at.

    Args:
        images: image table with groups; fingerprints: (N, D), in its order.
    Returns:
        Up to 2n rows, on each side the nearest to the threshold first, of equal ones the first: side
        ("joined": similarity above it, and no file name joins them; "apart": below it, in different groups),
        similarity, first, second.
    """
    ids, groups, radius = images["ImageId"].to_numpy(), images["group"].to_numpy(), 1 - info.near_duplicate
    parts = _number_groups([_join_by_name(images["ImageId"], info)], len(ids))
    found: dict[str, dict[tuple, tuple]] = {"joined": {}, "apart": {}}
    for rows, columns, similarities in compare(fingerprints):
        distances = 1 - similarities
        later, near = columns > rows[:, None], distances <= radius
        fits = later & near & _differ(parts, rows, columns), later & ~near & _differ(groups, rows, columns)
        for side, fit in zip(found, fits, strict=True):
            gaps = np.where(fit, np.abs(distances - radius), np.inf)
            for row, column in zip(*_find_least(gaps, n), strict=True):
                pair = ids[rows[row]], ids[columns[column]]
                found[side][pair] = float(gaps[row, column]), 1 - float(distances[row, column])
            found[side] = dict(sorted(found[side].items(), key=lambda item: item[1])[:n])
    table = [
        (side, likeness, *pair) for side, pairs in found.items() for pair, (_, likeness) in pairs.items()
    ]
    return pd.DataFrame(table, columns=["side", "similarity", "first", "second"])


def _differ(keys: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R, C) whether two images have different keys."""
    return keys[rows][:, None] != keys[columns]


def _find_least(values: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Find the n least finite numbers of a matrix, of equal ones the first: their rows and columns."""
    flat = values.ravel()
    bound = np.partition(flat, n)[:n].max() if flat.size > n else np.inf
    places = np.flatnonzero(np.isfinite(flat) & (flat <= bound))
    return np.unravel_index(places[np.argsort(flat[places], kind="stable")[:n]], values.shape)


def _number_groups(pairs: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Number the groups of n images of which (2, P) pairs of places are joined."""
    left, right = np.concatenate(pairs, axis=1)
    graph = scipy.sparse.coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    return pd.factorize(scipy.sparse.csgraph.connected_components(graph, directed=False)[1])[0]


def tell_parts(info: DatasetInfo, names: pd.Series) -> pd.Series:
    """Tell the part of each file name by `group_pattern`: text, or a whole number with `group_gap`.

    Returns:
        By the index of `names`; names that tell none are left out.
    Raises:
        DefectmillError: a part that is no number, where one is wanted, or a pattern that takes for ever.
    """
    if not info.group_pattern:
        return names[:0]
    with end_after(PATIENCE, f"group_pattern {info.group_pattern!r} takes for ever, mend it"):
        parts = names.str.extract(info.group_pattern, expand=False).dropna()
    if not info.group_gap:
        return parts
    if not (fits := parts.str.fullmatch("[0-9]{1,18}")).all():
        offence = f"group_pattern tells {parts[~fits].iloc[0]!r} of {names[parts[~fits].index[0]]}"
        raise DefectmillError(f"{offence}, which is no number, as group_gap wants")
    return parts.astype("int64")


def _join_by_name(image_ids: pd.Series, info: DatasetInfo) -> np.ndarray:
    """(2, P) places of augmented copies and their originals, and of images of one part by file name."""
    originals = pd.Index(image_ids).get_indexer(image_ids.map(original_of))
    copies = np.flatnonzero(originals >= 0)
    joined = np.stack([originals[copies], copies])
    if not info.group_pattern:
        return joined
    parts = tell_parts(info, image_ids.reset_index(drop=True))
    if info.group_gap:
        parts = (parts.sort_values().diff() > info.group_gap).cumsum()
    return np.concatenate([joined, _join_equal(parts)], axis=1)


def _join_equal(keys: pd.Series) -> np.ndarray:
    """(2, P) places, the index of `keys`: the first with the same key, and each."""
    places = keys.index.to_series()
    return np.stack([places.groupby(keys).transform("first"), places])
