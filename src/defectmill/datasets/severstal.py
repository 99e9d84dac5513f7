"""Severstal: Steel Defect Detection (Kaggle 2019), as Kaggle ships it: a folder or its zip.

Both layouts of train.csv and sample_submission.csv are taken; the one that is there is kept.
"""

import json
import shutil
from pathlib import Path

import pandas as pd

from defectmill.cards import Card
from defectmill.datasets.archive import unpack
from defectmill.datasets.competition import DatasetError
from defectmill.images import list_images
from defectmill.labels import layout_of, read_csv, read_labels
from defectmill.rle import RleError, check_rle

PARTS = ("train_images", "test_images")
SUFFIXES = ("", "_2019", "_current")  # of a table kept in both layouts, the fuller one first


def copy_raw(raw: Path, card: Card, folder: Path) -> None:
    """Make the competition folder; it appears under its name only when it is whole.

    Args:
        raw: folder or zip; pictures may be in train_images.zip and test_images.zip inside.
    Raises:
        DatasetError: a table or the pictures are missing, a damaged zip, or labels of another
            competition, with what was found.
        LabelError: a table that cannot be read, with file, row and value.
    """
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if raw.is_file():
        unpack(raw, work / "raw")
    source = _find_root(work / "raw" if raw.is_file() else raw, raw)
    tables = {name: _find_table(source, name) for name in ("train", "sample_submission")}
    pictures = {part: _gather(source / part, work / part) for part in PARTS}
    notes = [
        _check_train(tables["train"], pictures["train_images"], card),
        _write_sample(tables["sample_submission"], pictures["test_images"], work),
    ]
    shutil.copyfile(tables["train"], work / "train.csv")
    shutil.rmtree(work / "raw", ignore_errors=True)
    named = set(read_csv(work / "train.csv")["ImageId"])
    described = card.model_copy(
        update={
            "layout": layout_of(pd.read_csv(work / "train.csv", nrows=0)),
            "partial": not named <= set(pictures["train_images"]),
            "notes": tuple(notes),
        }
    )
    (work / "dataset.json").write_text(json.dumps(described.model_dump(), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def _find_root(source: Path, raw: Path) -> Path:
    """The folder of the tables: the source, or the one folder that it holds."""
    for folder in (source, *sorted(p for p in source.iterdir() if p.is_dir())):
        if any(folder.glob("train*.csv")):
            return folder
    found = ", ".join(sorted(p.name for p in source.iterdir())[:8]) or "nothing"
    raise DatasetError(f"{raw}: no train.csv; it holds {found}")


def _find_table(source: Path, name: str) -> Path:
    candidates = [source / f"{name}{suffix}.csv" for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise DatasetError(f"{source}: no {name}.csv")
    return found[0]


def _gather(part: Path, target: Path) -> list[str]:
    """Copy or unpack the pictures of one part; their names."""
    archive = part.with_name(part.name + ".zip")
    if part.is_dir():
        # What was unpacked a moment ago is moved: the pictures need their room once only.
        move = shutil.move if part.is_relative_to(target.parent) else shutil.copytree
        move(part, target)
    elif archive.is_file():
        unpack(archive, target)
    names = list_images(target) if target.is_dir() else []
    if not names:
        raise DatasetError(f"{part}: no pictures there, nor in {archive.name}")
    return names


def _check_train(csv: Path, pictures: list[str], card: Card) -> str:
    """Read every run against the picture's size; say how many pictures are labelled."""
    table = read_csv(csv)
    named = list(dict.fromkeys(table["ImageId"]))
    present = set(named) & set(pictures)
    if not present:
        raise DatasetError(
            f"{csv}: labels {len(named)} pictures, none of which is in train_images "
            f"({pictures[0]}, ...): is it of another competition?"
        )
    labels = read_labels(csv, named, len(card.classes))
    for image_id, class_id, rle in labels.loc[
        labels["hasMask"], ["ImageId", "ClassId", "EncodedPixels"]
    ].itertuples(index=False):
        try:
            check_rle(rle, card.shape)
        except RleError as error:
            raise DatasetError(f"{csv}: {image_id} class {class_id}: {error}") from error
    return (
        f"{csv.name} labels {len(named)} pictures, {len(present)} of them have a file; "
        f"{len(pictures)} files, {len(set(pictures) - set(named))} of them without a row"
    )


def _write_sample(csv: Path, pictures: list[str], work: Path) -> str:
    """Keep the sample where it asks for the pictures that are there, else ask for those."""
    wanted = read_csv(csv)
    missing = set(wanted["ImageId"]) - set(pictures)
    if not missing:
        shutil.copyfile(csv, work / "sample_submission.csv")
        return f"{csv.name} asks for {wanted['ImageId'].nunique()} pictures, all there"
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    table["ImageId"] = wanted["ImageId"]
    one = table[table["ImageId"] == table["ImageId"].iloc[0]]
    rows = [one.assign(ImageId=name) for name in pictures]
    asked = pd.concat(rows, ignore_index=True)
    if layout_of(table) == "2019":
        class_ids = wanted["ClassId"].iloc[: len(one)].astype(str).tolist() * len(pictures)
        asked["ImageId_ClassId"] = asked["ImageId"] + "_" + class_ids
        asked = asked.drop(columns="ImageId")
    asked.to_csv(work / "sample_submission.csv", index=False, lineterminator="\n")
    return (
        f"{csv.name} asks for {wanted['ImageId'].nunique()} pictures, {len(missing)} of them "
        f"have no file: the submission answers the {len(pictures)} of test_images, and is not "
        "for Kaggle"
    )
