"""Label tables: who has which defect where; both layouts of Severstal's CSV in and out.

Class ids run from 1 and channels from 0; only this module turns one into the other.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.rle import RleError, parse_runs, rle_to_mask

COLUMNS = ["ImageId", "ClassId", "EncodedPixels", "hasMask"]
LAYOUTS = {
    "2019": ["ImageId_ClassId", "EncodedPixels"],
    "current": ["ImageId", "ClassId", "EncodedPixels"],
}
_CLASS_ID = re.compile(r"[0-9]{1,4}")


class LabelError(ValueError):
    """A label table that cannot be used: file, row and value."""


def split_image_class(combined: str) -> tuple[str, int]:
    """Split "0002cc93b.jpg_1" into ("0002cc93b.jpg", 1); an image id may hold "_" itself."""
    image_id, _, class_id = combined.rpartition("_")
    if not image_id or not _CLASS_ID.fullmatch(class_id):
        raise LabelError(f"not '<image id>_<class id>': {combined!r}")
    return image_id, int(class_id)


def read_csv(csv: Path | str) -> pd.DataFrame:
    """Read either layout as it stands, row by row: ImageId, ClassId, EncodedPixels.

    Raises:
        LabelError: no such file, not CSV, a missing column, or an id that cannot be read;
            rows are counted as in an editor, the header being row 1.
    """
    csv = Path(csv)
    try:
        # Blank lines are kept, so that rows count as in an editor; those at the end are not.
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, skip_blank_lines=False)
        filled = np.flatnonzero((table != "").any(axis=1))
        table = table[: filled.max(initial=-1) + 1]
    except FileNotFoundError as error:
        raise LabelError(f"{csv}: no such file") from error
    except OSError as error:
        raise LabelError(f"{csv}: cannot be read ({error.strerror})") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise LabelError(f"{csv}: not a CSV table: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise LabelError(f"{csv} row 2: has more cells than the header")
    layout = layout_of(table)
    missing = [c for c in LAYOUTS[layout] if c not in table]
    if missing:
        raise LabelError(
            f"{csv}: no column {missing[0]!r}; it has {', '.join(table.columns)}; wanted "
            f"{' or '.join(','.join(c) for c in LAYOUTS.values())}"
        )
    images, classes = [], []
    for row, value in enumerate(
        table["ImageId_ClassId"] if layout == "2019" else table["ClassId"], 2
    ):
        try:
            if layout == "2019":
                image_id, class_id = split_image_class(value)
            else:
                image_id, class_id = table["ImageId"].iloc[row - 2], _read_class_id(value)
            if not image_id:
                raise LabelError("no image id")
        except ValueError as error:
            raise LabelError(f"{csv} row {row}: {error}") from error
        images.append(image_id)
        classes.append(class_id)
    return pd.DataFrame(
        {"ImageId": images, "ClassId": classes, "EncodedPixels": table["EncodedPixels"]}
    ).astype({"ImageId": str, "ClassId": int})


def layout_of(table: pd.DataFrame) -> str:
    """Tell the layout of a table by its columns."""
    return "2019" if LAYOUTS["2019"][0] in table else "current"


def read_labels(
    csv: Path | str, image_ids: Iterable[str] | None = None, n_classes: int | None = None,
    partial: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Read a label table with one row for every (image, class).

    Args:
        csv: either layout; classes that an image lacks may be an empty cell or no row.
        image_ids: all images there are; those without a row are clean. None: those named.
        n_classes: class ids run from 1 to this; None: up to the largest one named.
        partial: leave rows of other images than `image_ids` out, where else they are an error.
    Returns:
        ImageId, ClassId, EncodedPixels ("" where clean), hasMask; in the order of `image_ids`
        (else of the file), then by class.
    Raises:
        LabelError: an image outside `image_ids`, a duplicate pair, a class id out of range,
            malformed runs; with file, row and value. An id twice in `image_ids`.
    """
    table = read_csv(csv)
    known = list(dict.fromkeys(table["ImageId"])) if image_ids is None else list(image_ids)
    if len(set(known)) < len(known):
        raise LabelError(f"image id {max(known, key=known.count)!r} is given twice, for {csv}")
    n_classes = n_classes or int(table["ClassId"].max() if len(table) else 1)
    if partial:
        table = table[table["ImageId"].isin(known)]
    _check_rows(table, Path(csv), set(known), n_classes)
    pairs = pd.MultiIndex.from_product(
        [known, range(1, n_classes + 1)], names=["ImageId", "ClassId"]
    )
    runs = table.set_index(["ImageId", "ClassId"])["EncodedPixels"]
    labels = runs.reindex(pairs, fill_value="").reset_index()
    labels["hasMask"] = labels["EncodedPixels"] != ""
    return labels


def write_labels(labels: pd.DataFrame, csv: Path, layout: str) -> None:
    """Write a label table; see `labels_to_text`."""
    csv.write_text(labels_to_text(labels, layout), encoding="utf-8", newline="")


def labels_to_text(labels: pd.DataFrame, layout: str) -> str:
    """Write a label table as CSV; "current" lists defects only, "2019" every pair."""
    if layout == "2019":
        table = labels.assign(ImageId_ClassId=_pair_ids(labels))[LAYOUTS["2019"]]
    else:
        table = labels.loc[labels["EncodedPixels"] != "", LAYOUTS["current"]]
    return table.to_csv(index=False, lineterminator="\n")


def with_pair_ids(labels: pd.DataFrame) -> pd.DataFrame:
    """Show a label table with Kaggle's combined id: ImageId_ClassId, EncodedPixels, ImageId,
    ClassId, hasMask."""
    columns = [*LAYOUTS["2019"], "ImageId", "ClassId", "hasMask"]
    return labels.assign(ImageId_ClassId=_pair_ids(labels))[columns]


def draw_masks(
    labels: pd.DataFrame, image_id: str, shape: tuple[int, int], n_classes: int
) -> np.ndarray:
    """Draw the masks of one image.

    Returns:
        (H, W, n_classes) uint8 in {0, 1}; channel = class id - 1; an absent class is zeros.
    Raises:
        LabelError: runs that do not fit `shape`, or a class id outside 1..n_classes.
    """
    rows = labels[labels["ImageId"] == image_id]
    runs = dict(zip(rows["ClassId"], rows["EncodedPixels"], strict=True))
    return draw_runs(runs, shape, n_classes, image_id)


def draw_runs(
    runs: dict[int, str], shape: tuple[int, int], n_classes: int, image_id: str = ""
) -> np.ndarray:
    """Draw {class id: rle} as (H, W, n_classes) uint8; see `draw_masks`."""
    masks = np.zeros((*shape, n_classes), np.uint8)
    for class_id, rle in runs.items():
        if not 1 <= class_id <= n_classes:
            raise LabelError(f"{image_id}: class id {class_id} is outside 1..{n_classes}")
        try:
            if rle:
                masks[:, :, class_id - 1] = rle_to_mask(rle, shape)
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


def _pair_ids(labels: pd.DataFrame) -> pd.Series:
    return labels["ImageId"] + "_" + labels["ClassId"].astype(str)


def _read_class_id(text: str) -> int:
    if not _CLASS_ID.fullmatch(text):
        raise LabelError(f"class id {text!r} is not a whole number of up to four digits")
    return int(text)


def _check_rows(table: pd.DataFrame, csv: Path, known: set[str], n_classes: int) -> None:
    seen: dict[tuple[str, int], int] = {}
    for index, image_id, class_id, rle in table.itertuples():
        row, where = index + 2, f"{csv} row {index + 2}"
        if image_id not in known:
            raise LabelError(f"{where}: no image file {image_id!r}")
        if not 1 <= class_id <= n_classes:
            raise LabelError(f"{where}: class id {class_id} is outside 1..{n_classes}")
        first = seen.setdefault((image_id, class_id), row)
        if first != row:
            raise LabelError(f"{where}: {image_id} class {class_id} stands in row {first} too")
        try:
            parse_runs(rle)
        except RleError as error:
            raise LabelError(f"{where}: {image_id} class {class_id}: {error}") from error


def list_pairs(image_ids: Sequence[str], n_classes: int) -> list[tuple[str, int]]:
    """All (image id, class id) pairs, image by image."""
    return [(i, c) for i in image_ids for c in range(1, n_classes + 1)]
