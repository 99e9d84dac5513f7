"""Submissions, in the layout of the competition's sample_submission.csv: write, check by its rules, score.

Where there is no sample, every image of test_images is asked for, in the layout of train.csv. A submission
names images as the sample does, the project's other tables as their files.
"""

from collections.abc import Collection, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.dataset_info import explain_missing, read_dataset_info
from defectmill.files import DefectmillError, match_names, write_atomically
from defectmill.images import list_images
from defectmill.labels import (
    LAYOUTS,
    PAIR,
    LabelError,
    count_classes,
    layout_of,
    name_as_files,
    read_csv,
    read_labels,
    with_pair_ids,
)
from defectmill.rle import RleError, check_rle, clean_rle
from defectmill.scores import competition_score, count_runs


class SubmissionError(DefectmillError):
    """A submission that Kaggle would refuse: row and offence."""


def write_submission(labels: pd.DataFrame, csv: Path, sample_csv: Path) -> None:
    """Write predictions in the sample's layout, one row for every (image, class).

    Args:
        labels: label table of the predictions; pairs that it lacks are written as empty.
        csv: appears under its name only when it is whole; a header alone where there are no test images.
        sample_csv: gives layout, images, their names and order.
    Raises:
        SubmissionError: a prediction that the sample does not ask for, a pair twice, or no prediction at all
            where the sample does not tell its classes.
    """
    csv, sample_csv = Path(csv), Path(sample_csv)
    sample, layout = _read_sample(sample_csv)
    if labels.empty and not (sample["ClassId"] > 0).all():
        raise SubmissionError(f"no predictions, and {sample_csv} does not tell its classes")
    runs = labels.set_index(PAIR)["EncodedPixels"]
    wanted = _wanted_pairs(sample, _n_classes(sample_csv, labels, csv))
    names = match_names(sample["ImageId"].unique(), labels["ImageId"].unique().tolist())[0]
    pairs = pd.MultiIndex.from_tuples(wanted, names=PAIR)
    asked = pd.MultiIndex.from_tuples([(names.get(name, name), c) for name, c in wanted], names=PAIR)
    for what, offence in (
        (~runs.index.isin(asked), f"is not asked for by {sample_csv}"),
        (runs.index.duplicated(), "is predicted twice"),
    ):
        if what.any():
            image_id, class_id = runs.index[what][0]
            raise SubmissionError(f"{image_id} class {class_id} {offence}")
    table = runs.reindex(asked, fill_value="").set_axis(pairs).reset_index()
    columns = LAYOUTS["2019"] if layout == "2019" else ["ImageId", "EncodedPixels", "ClassId"]
    with write_atomically(csv) as part:
        with_pair_ids(table).to_csv(part, columns=columns, index=False, lineterminator="\n")


def asked_images(sample_csv: Path) -> list[str]:
    """Image ids of test_images that the sample asks for, in its order; none where there are no test images.

    Raises:
        SubmissionError: a sample without rows, or one that asks for an image which test_images lacks.
    """
    sample, tests = _read_sample(sample_csv)[0], sample_csv.parent / "test_images"
    image_ids = list_images(tests, missing_ok=True)
    found, lost = match_names(sample["ImageId"].unique(), image_ids)
    for index, name in sample["ImageId"][~sample["ImageId"].isin(found)].items():
        why = lost[name] or explain_missing(name, image_ids, sample_csv.parent)
        raise SubmissionError(f"{sample_csv} row {index + 2}: {tests.name} has no {name!r}{why}")
    return list(dict.fromkeys(found.values()))


def check_submission(csv: Path, sample_csv: Path, images: pd.DataFrame) -> None:
    """Check a submission: the sample's layout and pairs, each once; runs sorted, disjoint, inside the image.

    Args:
        images: image table of the sample's images, as their files are named: ImageId, height, width.
    Raises:
        SubmissionError: names the row (the header is row 1) and the offence.
    """
    csv, sample_csv = Path(csv), Path(sample_csv)
    try:
        table = read_csv(csv)
        n_classes = _n_classes(sample_csv, table, csv)
    except LabelError as error:
        raise SubmissionError(str(error)) from error
    layout, (sample, wanted_layout) = _layout(csv), _read_sample(sample_csv)
    if layout != wanted_layout:
        raise SubmissionError(f"{csv} row 1: has the {layout} layout, {sample_csv} the {wanted_layout}")
    wanted = dict.fromkeys(_wanted_pairs(sample, n_classes))
    sizes = images[["ImageId", "height", "width"]].itertuples(index=False)
    shapes = {image_id: (int(height), int(width)) for image_id, height, width in sizes}
    files = match_names(sample["ImageId"].unique(), list(shapes))[0]
    seen: dict[tuple[str, int], int] = {}
    for row, (image_id, class_id, rle) in enumerate(table.itertuples(index=False), 2):
        pair, where = (image_id, class_id), f"{csv} row {row}: {image_id}"
        if pair not in wanted:
            raise SubmissionError(f"{where} class {class_id} is not asked for")
        if pair in seen:
            raise SubmissionError(f"{where} class {class_id} again (row {seen[pair]})")
        seen[pair] = row
        if image_id not in files:
            raise SubmissionError(f"{where} is not in the image table")
        try:
            check_rle(rle, shapes[files[image_id]])
        except RleError as error:
            raise SubmissionError(f"{where} class {class_id}: {error}") from error
    _refuse_missing(csv, wanted, seen)


def score_submission(csv: Path, solution_csv: Path) -> float:
    """The competition's score of a submission: mean Dice over every (image, class).

    Computed on runs; no image is needed. A solution that lists defects only does not name the clean images:
    those come from the submission. One with empty rows lists them all.

    Raises:
        SubmissionError: a pair of the solution is missing or stands twice, an image or class that a full
            solution does not have, malformed runs, or an empty table.
    """
    return competition_score(*count_runs(*read_aligned(csv, solution_csv)))


def read_aligned(
    csv: Path, solution_csv: Path, image_ids: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read truth and prediction as label tables of the same rows in one order; see `score_submission`.

    `image_ids`, the files that both name, are then the image ids of the tables; without them names stay.
    """
    try:
        answered, solved = read_csv(csv), read_csv(solution_csv)
        if solved.empty:
            raise SubmissionError(f"{solution_csv}: has no rows")
        for row in np.flatnonzero(answered.duplicated(PAIR)).tolist():
            image_id, class_id = answered[PAIR].iloc[row]
            raise SubmissionError(f"{csv} row {row + 2}: {image_id} class {class_id} stands above too")
        if len(image_ids):
            answered = name_as_files(answered, image_ids, csv)
            solved = name_as_files(solved, image_ids, solution_csv)
        lists_clean = (solved["EncodedPixels"].map(clean_rle) == "").any()
        rows = solved if lists_clean else pd.concat([solved, answered])
        ids, n_classes = list(dict.fromkeys(rows["ImageId"])), count_classes(solved, solution_csv)
        n_classes = n_classes if lists_clean else max(n_classes, count_classes(answered, csv))
        given = set(zip(answered["ImageId"], answered["ClassId"], strict=True))
        _refuse_missing(csv, product(ids, range(1, n_classes + 1)), given)
        return read_labels(solution_csv, ids, n_classes), read_labels(csv, ids, n_classes)
    except LabelError as error:
        raise SubmissionError(str(error)) from error


def _layout(csv: Path) -> str:
    return layout_of(pd.read_csv(csv, nrows=0).rename(columns=str.strip))


def _read_sample(sample_csv: Path) -> tuple[pd.DataFrame, str]:
    """The rows that are asked for, ImageId, ClassId (0: all classes), and their layout."""
    if sample_csv.is_file():
        sample = read_csv(sample_csv)
        if sample.empty and list_images(sample_csv.parent / "test_images", missing_ok=True):
            whole = "without the file all of test_images are asked for"
            raise SubmissionError(f"{sample_csv}: asks for no image; {whole}")
        return sample, _layout(sample_csv)
    folder, train = sample_csv.parent / "test_images", sample_csv.parent / "train.csv"
    rows = pd.DataFrame({"ImageId": list_images(folder, missing_ok=True), "ClassId": 0})
    return rows, _layout(train) if train.is_file() else "current"


def _n_classes(sample_csv: Path, table: pd.DataFrame, csv: Path) -> int:
    """How many classes to predict: by the dataset.json beside the sample, else the largest one predicted."""
    path = sample_csv.parent / "dataset.json"
    if path.is_file():
        return read_dataset_info(path).n_classes
    return count_classes(table, csv)


def _wanted_pairs(sample: pd.DataFrame, n_classes: int) -> list[tuple[str, int]]:
    """Pairs to predict. A sample of one row an image (class 0) does not tell its classes."""
    if (sample["ClassId"] > 0).all():
        return list(zip(sample["ImageId"], sample["ClassId"], strict=True))
    return list(product(dict.fromkeys(sample["ImageId"]), range(1, n_classes + 1)))


def _refuse_missing(csv: Path, wanted: Iterable[tuple[str, int]], given: Collection) -> None:
    missing = (pair for pair in wanted if pair not in given)
    if first := next(missing, None):
        n = 1 + sum(1 for _ in missing)
        raise SubmissionError(f"{csv}: {n} rows are missing, the first {first[0]} class {first[1]}")
