"""Findings of single pictures: what was looked for, what it means, and who has it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from defectmill.cards import Card


class Finding(NamedTuple):
    """What was looked for, what it means or what to do, and who has it.

    rows: part ("train", "test"; "" for a picture in neither), ImageId, value, twin (the other
    picture of a pair, ""). count: where it counts something else than the rows.
    """

    what: str
    meaning: str
    rows: Sequence[tuple]
    count: int | None = None


def make_rows(shots: pd.DataFrame, value, twin="") -> list[tuple]:
    """List pictures (part, ImageId) with a value and a twin: one for all, or one for each."""
    told = shots.assign(value=value, twin=twin)
    return list(told[["part", "ImageId", "value", "twin"]].itertuples(index=False, name=None))


def read_odd(csv: Path, shots: pd.DataFrame) -> Iterator[Finding]:
    """Read what the dataset's adapter saw in the raw files; nothing where there is no file."""
    if not csv.is_file():
        return
    parts = dict(zip(shots["ImageId"], shots["part"], strict=True))
    odd = pd.read_csv(csv, dtype={"ImageId": str}, keep_default_na=False)
    odd = odd.assign(part=odd["ImageId"].map(parts).fillna(""))
    for what, seen in odd.groupby("finding", sort=False):
        finding, _, meaning = str(what).partition(", ")
        seen = seen[seen["ImageId"] != ""]
        yield Finding(finding, meaning, make_rows(seen, seen["value"]))


def find_missing(written: pd.DataFrame, image_ids: pd.Series) -> Iterator[Finding]:
    """Compare the rows of train.csv, as they stand in the file, with the files there are."""
    named, files = set(written["ImageId"]), set(image_ids)
    empty = written.loc[written["EncodedPixels"] == "", "ImageId"].value_counts(sort=False)
    yield Finding(
        "files without a row in train.csv", "they count as clean",
        [("train", i, 1, "") for i in sorted(files - named)],
    )  # fmt: skip
    yield Finding(
        "images of train.csv without a file", "left out",
        [("", i, 1, "") for i in sorted(named - files)],
    )  # fmt: skip
    yield Finding(
        "rows of train.csv without runs",
        f"in {len(empty)} images: the classes that they lack, as in the layout of 2019",
        [("train" if i in files else "", i, n, "") for i, n in empty.items()], int(empty.sum()),
    )  # fmt: skip


def find_strange_files(shots: pd.DataFrame) -> Iterator[Finding]:
    """Look at format, content and size of every picture."""
    sizes = shots["height"].astype(str) + " x " + shots["width"].astype(str)
    common = sizes.mode()[0]
    yield Finding(
        "suffix and content differ", "read by content", make_rows(shots[shots["lies"]], 1)
    )
    yield Finding(
        "all pixels of one value", "nothing to see in them: leave them out",
        make_rows(shots[shots["blank"]], 1),
    )  # fmt: skip
    yield Finding(
        "sizes that differ from the commonest", f"{common} is the commonest; no fault in itself",
        make_rows(shots[sizes != common], sizes[sizes != common]),
    )  # fmt: skip


def find_rare_classes(images: pd.DataFrame, card: Card, n_folds: int) -> Iterator[Finding]:
    """Find classes that cannot reach every fold; counts groups, names images.

    Args:
        images: image table with `group` and `classes`.
    """
    each = images.assign(classes=images["classes"].str.split()).explode("classes")
    rare = False
    for kind in card.classes:
        mine = each[each["classes"] == str(kind.id)]
        if mine["group"].nunique() < n_folds:
            rare = True
            yield Finding(
                f"class {kind.id}: fewer groups than folds",
                f"{n_folds} folds: some hold none of it, and cannot measure it",
                make_rows(mine.assign(part="train"), mine["group"]), mine["group"].nunique(),
            )  # fmt: skip
    if not rare:
        yield Finding("classes with fewer groups than folds", "every fold measures every class", [])
