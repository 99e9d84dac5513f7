"""Audit: what is odd in the labels of a dataset, counted, with file names."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.images import list_images
from defectmill.labels import draw_runs, runs_by_image

SIGNATURES = {b"\xff\xd8": {".jpg", ".jpeg"}, b"\x89P": {".png"}, b"BM": {".bmp"}}
NAMES_SHOWN = 5


def audit_labels(labels: pd.DataFrame, images: pd.DataFrame, folder: Path, n_folds: int
                 ) -> pd.DataFrame:  # fmt: skip
    """Count the oddities of a label table and its images.

    Args:
        images: image table with groups and folds.
    Returns:
        One row a finding: finding, count, examples (up to five, separated by blanks).
    """
    runs, ids = runs_by_image(labels), images["ImageId"].tolist()
    shapes = dict(zip(ids, zip(images["height"], images["width"], strict=True), strict=True))
    n_classes = int(labels["ClassId"].max())
    findings = {
        "files without a row in the label table": sorted(set(list_images(folder)) - set(ids)),
        "suffix and content differ": [i for i in ids if _suffix_lies(folder / i)],
        "same bytes as another image": _repeated(ids, lambda i: _digest(folder / i)),
        "same bytes, different labels": _contradicting(ids, runs, folder),
        "classes overlap": [i for i in ids if _overlaps(runs[i], shapes[i], n_classes)],
        "sizes that differ from the commonest": _odd_sizes(shapes),
        "near-duplicates or shots of a part that has others": images.loc[
            images["group"].duplicated(keep=False), "ImageId"
        ].tolist(),
    }
    rows = [(what, len(who), " ".join(who[:NAMES_SHOWN])) for what, who in findings.items()]
    groups = images.assign(classes=images["classes"].str.split()).explode("classes")
    for class_id in range(1, n_classes + 1):
        of_class = groups.loc[groups["classes"] == str(class_id), "group"].unique()
        if len(of_class) < n_folds:
            rows.append((f"class {class_id}: fewer groups than folds", len(of_class), ""))
    return pd.DataFrame(rows, columns=["finding", "count", "examples"])


def _suffix_lies(path: Path) -> bool:
    with path.open("rb") as file:
        suffixes = SIGNATURES.get(file.read(2))
    return suffixes is not None and path.suffix.lower() not in suffixes


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _repeated(ids: list[str], key) -> list[str]:
    keys = pd.Series({i: key(i) for i in ids})
    return keys.index[keys.duplicated(keep=False)].tolist()


def _contradicting(ids: list[str], runs: dict, folder: Path) -> list[str]:
    seen = pd.Series({i: _digest(folder / i) for i in ids})
    labels = pd.Series({i: str(sorted(runs[i].items())) for i in ids})
    return labels.index[labels.groupby(seen).transform("nunique") > 1].tolist()


def _overlaps(runs: dict[int, str], shape: tuple[int, int], n_classes: int) -> bool:
    return len(runs) > 1 and bool((draw_runs(runs, shape, n_classes).sum(axis=2) > 1).any())


def _odd_sizes(shapes: dict[str, tuple[int, int]]) -> list[str]:
    sizes, counts = np.unique(list(shapes.values()), axis=0, return_counts=True)
    commonest = tuple(sizes[counts.argmax()])
    return [i for i, shape in shapes.items() if shape != commonest]
