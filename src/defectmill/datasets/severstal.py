"""Severstal: Steel Defect Detection (Kaggle 2019), as Kaggle ships it: a folder or its zip.

Both layouts of train.csv and sample_submission.csv are taken; the one that is there is kept.
"""

import shutil
from pathlib import Path

import pandas as pd

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets.competition import DatasetError, name_some, write_info
from defectmill.datasets.download import unpack
from defectmill.files import read_table, write_atomically
from defectmill.images import list_images, read_shape
from defectmill.labels import LabelError, layout_of, make_image_table, read_csv, read_labels

NO_SAMPLE = "no sample_submission.csv: all of test_images are asked for, in the layout of train.csv"
SUFFIXES = ("", "_2019", "_current")  # of a table that is there in both layouts, the fuller one first


def copy_raw(raw: Path, info: DatasetInfo, folder: Path) -> None:
    """Make the competition folder; it appears under its name only when it is whole.

    Args:
        raw: folder or zip; images may be in train_images.zip and test_images.zip inside.
        info: for dataset.json; its layout, partial and notes are replaced by what is found.
    Raises:
        DatasetError: train.csv or the images are missing, a damaged zip, or labels of another competition.
        LabelError: a table that cannot be read, with file, row and value.
    """
    with write_atomically(folder) as work:
        work.mkdir()
        if raw.is_file():
            unpack(raw, work / "raw")
        train, sample = _find_tables(work / "raw" if raw.is_file() else raw, raw)
        for part in ("train_images", "test_images"):
            _gather(train.parent / part, work / part)
        partial, note = _check_train(train, work / "train_images", info)
        asked = _write_sample(sample, work) if sample else NO_SAMPLE
        notes, layout = (note, asked), layout_of(read_table(train))
        shutil.copyfile(train, work / "train.csv")
        shutil.rmtree(work / "raw", ignore_errors=True)
        found = {"layout": layout, "partial": partial, "notes": notes}
        write_info(info.model_copy(update=found), work)


def _find_tables(source: Path, raw: Path) -> tuple[Path, Path | None]:
    """Find train.csv and, where there is one, sample_submission.csv in the source, or in a folder in it."""
    for folder in (source, *sorted(p for p in source.iterdir() if p.is_dir())):
        train, sample = (
            [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}.csv").is_file()]
            for name in ("train", "sample_submission")
        )
        if train:
            return train[0], sample[0] if sample else None
    found = name_some(sorted(p.name for p in source.iterdir()), 8) or "nothing"
    raise DatasetError(f"{raw}: no train.csv; it holds {found}")


def _gather(part: Path, target: Path) -> None:
    """Copy or unpack the images of one part."""
    archive = part.with_name(part.name + ".zip")
    if part.is_dir():
        if part.is_relative_to(target.parent):  # unpacked a moment ago: the images need their room once only
            shutil.move(part, target)
        else:  # images alone: a link to a folder may lead anywhere
            target.mkdir()
            for name in list_images(part):
                shutil.copy2(part / name, target / name)
    elif archive.is_file():
        unpack(archive, target)
    if not target.is_dir() or not list_images(target):
        raise DatasetError(f"{part}: no images there, nor in {archive.name}")


def _check_train(csv: Path, folder: Path, info: DatasetInfo) -> tuple[bool, str]:
    """Check every run against the images' size; give whether images lack a file, and a note on that."""
    files, named = list_images(folder), read_csv(csv)["ImageId"].unique().tolist()
    n_both = len(set(named) & set(files))
    if not n_both:
        offence = f"labels {len(named)} images, none of which is in train_images ({files[0]}, ...)"
        raise DatasetError(f"{csv}: {offence}: is it of another competition?")
    height, width = info.shape or read_shape(folder / files[0])
    labels = read_labels(csv, named, info.n_classes)
    try:
        make_image_table(labels, pd.DataFrame({"ImageId": named, "height": height, "width": width}))
    except LabelError as error:
        raise DatasetError(f"{csv}: {error}") from error
    labelled = f"{csv.name} labels {len(named)} images, {n_both} of them have a file"
    return n_both < len(named), f"{labelled}; {len(files)} files, {len(files) - n_both} of them without a row"


def _write_sample(csv: Path, work: Path) -> str:
    """Keep the sample where it asks for the images that are there, else ask for those."""
    files, wanted = list_images(work / "test_images"), read_csv(csv)["ImageId"]
    asks, n_missing = f"{csv.name} asks for {wanted.nunique()} images", len(set(wanted) - set(files))
    if not n_missing:
        shutil.copyfile(csv, work / "sample_submission.csv")
        return f"{asks}, all there"
    table = read_table(csv)
    column = "ImageId_ClassId" if layout_of(table) == "2019" else "ImageId"
    rows = table[wanted == wanted.iloc[0]]  # of the first image; those of the others differ in the name only
    endings = rows[column].str.removeprefix(wanted.iloc[0])
    asked = pd.concat([rows.assign(**{column: name + endings}) for name in files])
    asked.to_csv(work / "sample_submission.csv", index=False, lineterminator="\n")
    answered = f"the submission answers the {len(files)} of test_images, and is not for Kaggle"
    return f"{asks}, {n_missing} of them have no file: {answered}"
