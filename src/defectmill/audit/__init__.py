"""Audit: what is wrong with the labels of a dataset, counted, with every file name.

A finding that was looked for and not found stays in the table with 0.
"""

from pathlib import Path

import pandas as pd

from defectmill.audit.census import compare_published
from defectmill.audit.findings import (
    Finding,
    find_missing,
    find_rare_classes,
    find_strange_files,
    read_odd,
)
from defectmill.audit.twins import find_copies, find_near_duplicates
from defectmill.cards import Card
from defectmill.image_table import find_overlaps
from defectmill.labels import COLUMNS, read_csv, read_labels, runs_by_image
from defectmill.shots import Shots

BETWEEN = " / "  # names in a cell; no file name holds a slash
NAMES_SHOWN = 5


def audit_labels(
    folder: Path, card: Card, labels: pd.DataFrame, images: pd.DataFrame, train: Shots,
    test: Shots, n_folds: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Count what is odd in a competition folder, in the labels of its solution.csv too.

    Args:
        folder: the competition folder; odd.csv, what its adapter saw, may be missing.
        labels, images: label table and image table (with groups) of train_images.
        train, test: the files of both parts; `train` in the order of `images`.
    Returns:
        One row a finding: finding, count, meaning, images (all, parted by " / "); and one row a
        finding and image: finding, part ("train", "test", "" for none), ImageId, value, twin.
    """
    tables = {"train": labels, "test": _read_solution(folder, len(card.classes))}
    runs = {(part, i): r for part, t in tables.items() for i, r in runs_by_image(t).items()}
    parts = [train.table.assign(part="train"), test.table.assign(part="test")]
    shots = pd.concat(parts, ignore_index=True)
    shots["runs"] = [runs.get(key) for key in zip(shots["part"], shots["ImageId"], strict=True)]
    overlaps = [
        (part, image_id, pixels, "")
        for part, table in tables.items()
        for image_id, pixels in find_overlaps(table).items()
    ]
    written = read_csv(folder / "train.csv")
    found = [
        *read_odd(folder / "odd.csv", shots),
        *find_missing(written, images["ImageId"]),
        *find_strange_files(shots),
        Finding("classes overlap", "a multiclass head refuses them: multilabel, or mend", overlaps),
        *find_copies(shots, len(card.classes)),
        *find_near_duplicates(images, train, test, card.near_duplicate),
        *find_rare_classes(images, card, n_folds),
        *compare_published(written, images["ImageId"], card),
    ]
    short = [
        (f.what, len(f.rows) if f.count is None else f.count, f.meaning,
         BETWEEN.join(_name(part, image_id) for part, image_id, *_ in f.rows))
        for f in found
    ]  # fmt: skip
    long = [(f.what, *row) for f in found for row in f.rows]
    return (
        pd.DataFrame(short, columns=["finding", "count", "meaning", "images"]),
        pd.DataFrame(long, columns=["finding", "part", "ImageId", "value", "twin"]),
    )


def shorten_names(findings: pd.DataFrame) -> pd.DataFrame:
    """Show a table of findings with up to five names in a row."""
    names = findings["images"].str.split(BETWEEN, regex=False)
    more = (names.str.len() > NAMES_SHOWN).map({True: f"{BETWEEN}...", False: ""})
    return findings.assign(images=names.str[:NAMES_SHOWN].str.join(BETWEEN) + more)


def _name(part: str, image_id: str) -> str:
    return f"test_images/{image_id}" if part == "test" else image_id


def _read_solution(folder: Path, n_classes: int) -> pd.DataFrame:
    if not (folder / "solution.csv").is_file():
        return pd.DataFrame(columns=COLUMNS)
    return read_labels(folder / "solution.csv", n_classes=n_classes)
