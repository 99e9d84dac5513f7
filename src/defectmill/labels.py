"""Label tables and image tables; both layouts of Severstal's CSV in and out.

A label table has one row an (image, class): ImageId, ClassId, EncodedPixels, hasMask. An image table has
one row an image: ImageId, height, width, classes ("1 3"; "" = clean), later group and fold.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.dataset_info import explain_missing, nearest
from defectmill.files import DefectmillError, match_names, read_table
from defectmill.rle import (
    RleError,
    check_rle,
    clean_rle,
    intersect_rles,
    mask_to_rle,
    parse_runs,
    rle_to_mask,
    unite_rles,
)

COLUMNS = ["ImageId", "ClassId", "EncodedPixels", "hasMask"]
IMAGE_COLUMNS = ["ImageId", "height", "width", "classes"]
PAIR = ["ImageId", "ClassId"]
LAYOUTS = {"2019": ["ImageId_ClassId", "EncodedPixels"], "current": [*PAIR, "EncodedPixels"]}
MOST_CLASSES = 255  # of a table that alone tells how many there are
_CLASS_ID = re.compile(r"[0-9]{1,4}")


class LabelError(DefectmillError):
    """A label table that cannot be used: file, row and value."""


def split_image_class(combined: str) -> tuple[str, int]:
    """Split "0002cc93b.jpg_1" into ("0002cc93b.jpg", 1); an image id may hold "_" itself."""
    image_id, _, class_id = combined.rpartition("_")
    if not image_id or not _CLASS_ID.fullmatch(class_id):
        raise LabelError(f"not '<image id>_<class id>': {combined!r}")
    return image_id, int(class_id)


def read_csv(csv: Path | str) -> pd.DataFrame:
    """Read either layout as it stands, row by row: ImageId, ClassId, EncodedPixels.

    LabelError names what cannot be read, with its row as an editor counts it: the header is row 1.
    """
    try:
        table = read_table(Path(csv))
    except DefectmillError as error:
        raise LabelError(str(error)) from error
    layout = layout_of(table)
    missing = [c for c in LAYOUTS[layout] if c not in table]
    if missing:
        wanted = " or ".join(map(",".join, LAYOUTS.values()))
        raise LabelError(f"{csv}: no column {missing[0]!r}; it has {', '.join(table)}; wanted {wanted}")
    read_pair = split_image_class if layout == "2019" else _check_pair
    pairs = []
    for row, values in enumerate(table[LAYOUTS[layout][:-1]].itertuples(index=False), 2):
        if not any(map(str.strip, values)):
            raise LabelError(f"{csv} row {row}: names no image; delete rows that are empty")
        try:
            pairs.append(read_pair(*map(str.strip, values)))
        except LabelError as error:
            raise LabelError(f"{csv} row {row}: {error}") from error
    ids = pd.DataFrame(pairs, columns=["ImageId", "ClassId"]).astype({"ImageId": str, "ClassId": int})
    return ids.assign(EncodedPixels=table["EncodedPixels"])


def layout_of(table: pd.DataFrame) -> str:
    """Tell the layout of a table by its columns."""
    return "2019" if LAYOUTS["2019"][0] in table else "current"


def read_labels(
    csv: Path | str, image_ids: Iterable[str] | None = None, n_classes: int = 0, partial: bool = False
) -> pd.DataFrame:
    """Read a label table with one row for every (image, class).

    Args:
        csv: either layout; of a class that an image lacks a row without runs, or no row; a row for each
            defect, or one for all of a class. Words such as -1 or NaN are no runs (`rle.NOTHING`).
        image_ids: all images there are; those without a row are clean. None: those named.
        n_classes: class ids run from 1 to this; 0: up to the largest one named, see `count_classes`.
        partial: rows of other images than `image_ids` are left out instead of refused.
    Returns:
        ImageId (of `image_ids`, which names may differ from as `files.match_names` says), ClassId,
        EncodedPixels ("" where clean), hasMask; in the order of `image_ids` (else of the file), then class.
    Raises:
        LabelError: an image outside `image_ids`, a class id out of range, malformed runs; with file, row and
            value. An id twice in `image_ids`.
    """
    table = read_csv(csv)
    known = list(dict.fromkeys(table["ImageId"])) if image_ids is None else list(image_ids)
    if len(set(known)) < len(known):
        raise LabelError(f"image id {max(known, key=known.count)!r} is given twice, for {csv}")
    n_classes = n_classes or count_classes(table, csv)
    table = name_as_files(table, known, Path(csv), partial)
    table["EncodedPixels"] = table["EncodedPixels"].map(clean_rle)
    _check_rows(table, Path(csv), n_classes)
    pairs = pd.MultiIndex.from_product([known, range(1, n_classes + 1)], names=PAIR)
    runs = table.set_index(PAIR)["EncodedPixels"]
    again = runs.index.duplicated(keep=False)
    runs = pd.concat([runs[~again], runs[again].groupby(level=PAIR).agg(unite_rles)])
    return make_label_table(runs.reindex(pairs, fill_value="").reset_index().itertuples(index=False))


def count_classes(table: pd.DataFrame, csv: Path | str) -> int:
    """Tell how many classes a table of `read_csv` has: up to the largest one named, 1 where it is empty.

    LabelError over MOST_CLASSES: every image gets a row for each, and one wrong id would take gigabytes.
    """
    largest = max(table["ClassId"], default=1)
    if largest > MOST_CLASSES:
        where = f"{csv} row {table['ClassId'].idxmax() + 2}: class id {largest}"
        raise LabelError(f"{where}: of a table that alone tells its classes, {MOST_CLASSES} is the largest")
    return largest


def name_as_files(
    table: pd.DataFrame, image_ids: Collection[str], csv: Path, partial: bool = False
) -> pd.DataFrame:
    """Put the ids of files into a table of `read_csv`, its index as before; see `read_labels`."""
    found, lost = match_names(table["ImageId"].unique(), list(image_ids))
    is_lost = ~table["ImageId"].isin(found)
    for index, name in table["ImageId"][is_lost].items():
        if lost[name] or not partial:
            why = lost[name] or explain_missing(name, image_ids, csv.parent)
            raise LabelError(f"{csv} row {index + 2}: no image file {name!r}{why}")
    return table[~is_lost].assign(ImageId=table["ImageId"].map(found))


def make_label_table(rows: Iterable[tuple[str, int, str]]) -> pd.DataFrame:
    """Make a label table of (image id, class id, rle) rows; only this function derives hasMask."""
    labels = pd.DataFrame(rows, columns=COLUMNS[:3]).astype({"ImageId": str, "ClassId": int})
    return labels.assign(hasMask=labels["EncodedPixels"] != "")


def masks_to_labels(masks: Iterable[tuple[str, np.ndarray]]) -> pd.DataFrame:
    """Write (image id, (H, W, C) masks) pairs as a label table with a row for every class."""
    return make_label_table(
        (image_id, channel + 1, mask_to_rle(mask[:, :, channel]))
        for image_id, mask in masks
        for channel in range(mask.shape[2])
    )


def write_labels(labels: pd.DataFrame, csv: Path, layout: str) -> None:
    """Write a label table as CSV; see `labels_to_text`."""
    csv.write_text(labels_to_text(labels, layout), encoding="utf-8", newline="")


def labels_to_text(labels: pd.DataFrame, layout: str) -> str:
    """Write a label table as CSV; "current" lists defects only, "2019" every pair."""
    table = with_pair_ids(labels) if layout == "2019" else labels[labels["EncodedPixels"] != ""]
    return table.to_csv(columns=LAYOUTS[layout], index=False, lineterminator="\n")


def with_pair_ids(labels: pd.DataFrame) -> pd.DataFrame:
    """Put Kaggle's combined id and the runs before the other columns of a label table."""
    pair_ids = labels["ImageId"] + "_" + labels["ClassId"].astype(str)
    rest = [c for c in labels if c != "EncodedPixels"]
    return labels.assign(ImageId_ClassId=pair_ids)[[*LAYOUTS["2019"], *rest]]


def draw_masks(labels: pd.DataFrame, image_id: str, shape: tuple[int, int], n_classes: int) -> np.ndarray:
    """Draw the masks of one image: (H, W, n_classes) uint8 in {0, 1}; channel = class id - 1.

    Raises:
        LabelError: an image that the table does not name, runs that do not fit `shape`, or a class id outside
            1..n_classes.
    """
    rows = labels[labels["ImageId"] == image_id]
    if rows.empty:
        near = nearest(image_id, labels["ImageId"].unique())
        raise LabelError(f"{image_id!r} is not in the label table{near}")
    runs = dict(zip(rows["ClassId"], rows["EncodedPixels"], strict=True))
    return draw_runs(runs, shape, n_classes, image_id)


def require_shape(name: str | Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise LabelError where an image is not of the (height, width) that 02 read with its labels."""
    if found != wanted:
        told = "{} x {} pixels, and was {} x {} when 02 read it".format(*found, *wanted)
        raise LabelError(f"{name}: is {told}: `make labels` reads it anew")


def draw_runs(runs: dict[int, str], shape: Sequence[int], n_classes: int, image_id: str = "") -> np.ndarray:
    """Draw {class id: rle} as (H, W, n_classes) uint8; see `draw_masks`."""
    height, width = int(shape[0]), int(shape[1])
    masks = np.zeros((height, width, n_classes), np.uint8)
    for class_id, rle in runs.items():
        if not 1 <= class_id <= n_classes:
            raise LabelError(f"{image_id}: class id {class_id} is outside 1..{n_classes}")
        try:
            if rle:
                masks[:, :, class_id - 1] = rle_to_mask(rle, (height, width))
        except RleError as error:
            raise LabelError(f"{image_id} class {class_id}: {error}") from error
    return masks


def runs_by_image(labels: pd.DataFrame) -> dict[str, dict[int, str]]:
    """Collect {image id: {class id: rle}} with the classes present only."""
    runs: dict[str, dict[int, str]] = {image_id: {} for image_id in labels["ImageId"]}
    present = labels[labels["EncodedPixels"] != ""]
    for image_id, class_id, rle in present[LAYOUTS["current"]].itertuples(index=False):
        runs[image_id][int(class_id)] = rle
    return runs


def classes_by_image(labels: pd.DataFrame) -> pd.DataFrame:
    """One row an image: ImageId, classes ("1 3"; "" = clean)."""
    runs = runs_by_image(labels)
    classes = [" ".join(map(str, sorted(r))) for r in runs.values()]
    return pd.DataFrame({"ImageId": list(runs), "classes": classes}, dtype=str)


def make_image_table(labels: pd.DataFrame, shapes: pd.DataFrame) -> pd.DataFrame:
    """Make the image table of a label table, and check every run against its image's size.

    Args:
        shapes: ImageId, height, width of (at least) the images of `labels`; a scan's table fits.
    Raises:
        LabelError: an image without a size, or runs that leave the image.
    """
    sizes = {i: (int(h), int(w)) for i, h, w in shapes[IMAGE_COLUMNS[:3]].itertuples(index=False)}
    for image_id, runs in runs_by_image(labels).items():
        if image_id not in sizes:
            raise LabelError(f"{image_id}: is in the label table, but there is no such image file")
        for class_id, rle in runs.items():
            try:
                check_rle(rle, sizes[image_id])
            except RleError as error:
                raise LabelError(f"{image_id} class {class_id}: {error}") from error
    images = classes_by_image(labels)
    images[["height", "width"]] = np.array([sizes[i] for i in images["ImageId"]], int).reshape(-1, 2)
    return images[IMAGE_COLUMNS]


def read_image_table(csv: Path) -> pd.DataFrame:
    """Read an image table back; `classes` is text, "" for a clean image."""
    return pd.read_csv(csv, dtype={"ImageId": str, "classes": str}, keep_default_na=False)


def find_overlaps(labels: pd.DataFrame) -> dict[str, int]:
    """Find the images with a pixel of two classes: {image id: pixels shared, pair by pair}."""
    shared = {
        image_id: sum(intersect_rles(*pair) for pair in combinations(runs.values(), 2))
        for image_id, runs in runs_by_image(labels).items()
    }
    return {image_id: count for image_id, count in shared.items() if count}


def refuse_overlaps(labels: pd.DataFrame) -> None:
    """Raise LabelError, with up to five images, unless each pixel has one class at most."""
    shared = find_overlaps(labels)
    if shared:
        named = ", ".join(f"{i} ({n} pixels)" for i, n in [*shared.items()][:5])
        raise LabelError(
            f"classes overlap in {len(shared)} images: {named}{', ...' * (len(shared) > 5)}; a "
            "multiclass head gives a pixel one class: set model.head=multilabel, or mend the labels"
        )


def _check_pair(image_id: str, class_id: str) -> tuple[str, int]:
    if not _CLASS_ID.fullmatch(class_id):
        raise LabelError(f"class id {class_id!r} is not a whole number of up to four digits")
    if not image_id:
        raise LabelError("no image id")
    return image_id, int(class_id)


def _check_rows(table: pd.DataFrame, csv: Path, n_classes: int) -> None:
    for index, image_id, class_id, rle in table.itertuples():
        where = f"{csv} row {index + 2}"
        if not 1 <= class_id <= n_classes:
            raise LabelError(f"{where}: class id {class_id} is outside 1..{n_classes}")
        try:
            parse_runs(rle)
        except RleError as error:
            raise LabelError(f"{where}: {image_id} class {class_id}: {error}") from error
