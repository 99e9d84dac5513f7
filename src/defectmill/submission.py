"""Submissions, in the layout of the competition's sample_submission.csv: write, check by its rules, score."""

from collections.abc import Collection, Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from defectmill.dataset_info import read_dataset_info
from defectmill.files import DefectmillError, write_atomically
from defectmill.labels import LAYOUTS, LabelError, layout_of, read_csv, read_labels, with_pair_ids
from defectmill.rle import RleError, check_rle
from defectmill.scores import competition_score, count_runs


class SubmissionError(DefectmillError):
    """A submission that Kaggle would refuse: row and offence."""


def write_submission(labels: pd.DataFrame, csv: Path, sample_csv: Path) -> None:
    """Write predictions in the sample's layout, one row for every (image, class).

    Args:
        labels: label table of the predictions; pairs that it lacks are written as empty.
        csv: appears under its name only when it is whole.
        sample_csv: gives layout, images and their order.
    Raises:
        SubmissionError: a prediction that the sample does not ask for, a pair twice, or no prediction at all
            where the sample does not tell its classes.
    """
    csv, sample_csv = Path(csv), Path(sample_csv)
    sample = read_csv(sample_csv)
    if sample.empty:
        raise SubmissionError(f"{sample_csv}: asks for no image")
    if labels.empty and not (sample["ClassId"] > 0).all():
        raise SubmissionError(f"no predictions, and {sample_csv} does not tell its classes")
    runs = labels.set_index(["ImageId", "ClassId"])["EncodedPixels"]
    pairs = pd.MultiIndex.from_tuples(_wanted_pairs(sample, _n_classes(sample_csv, labels)))
    for what, offence in (
        (~runs.index.isin(pairs), f"is not asked for by {sample_csv}"),
        (runs.index.duplicated(), "is predicted twice"),
    ):
        if what.any():
            image_id, class_id = runs.index[what][0]
            raise SubmissionError(f"{image_id} class {class_id} {offence}")
    table = runs.reindex(pairs, fill_value="").rename_axis(["ImageId", "ClassId"]).reset_index()
    columns = LAYOUTS["2019"] if _layout(sample_csv) == "2019" else ["ImageId", "EncodedPixels", "ClassId"]
    with write_atomically(csv) as part:
        with_pair_ids(table).to_csv(part, columns=columns, index=False, lineterminator="\n")


def check_submission(csv: Path, sample_csv: Path, images: pd.DataFrame) -> None:
    """Check a submission: the sample's layout and pairs, each once; runs sorted, disjoint, inside the image.

    Args:
        images: image table of the sample's images: ImageId, height, width.
    Raises:
        SubmissionError: names the row (the header is row 1) and the offence.
    """
    csv, sample_csv = Path(csv), Path(sample_csv)
    try:
        table = read_csv(csv)
    except LabelError as error:
        raise SubmissionError(str(error)) from error
    layout, wanted_layout = _layout(csv), _layout(sample_csv)
    if layout != wanted_layout:
        raise SubmissionError(f"{csv} row 1: has the {layout} layout, {sample_csv} the {wanted_layout}")
    wanted = dict.fromkeys(_wanted_pairs(read_csv(sample_csv), _n_classes(sample_csv, table)))
    sizes = images[["ImageId", "height", "width"]].itertuples(index=False)
    shapes = {image_id: (int(height), int(width)) for image_id, height, width in sizes}
    seen: dict[tuple[str, int], int] = {}
    for row, (image_id, class_id, rle) in enumerate(table.itertuples(index=False), 2):
        pair, where = (image_id, class_id), f"{csv} row {row}: {image_id}"
        if pair not in wanted:
            raise SubmissionError(f"{where} class {class_id} is not asked for")
        if pair in seen:
            raise SubmissionError(f"{where} class {class_id} again (row {seen[pair]})")
        seen[pair] = row
        if image_id not in shapes:
            raise SubmissionError(f"{where} is not in the image table")
        try:
            check_rle(rle, shapes[image_id])
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


def read_aligned(csv: Path, solution_csv: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read truth and prediction as label tables of the same rows in one order; see `score_submission`."""
    try:
        answered, solved = read_csv(csv), read_csv(solution_csv)
        if solved.empty:
            raise SubmissionError(f"{solution_csv}: has no rows")
        rows = pd.concat([solved, answered]) if (solved["EncodedPixels"] != "").all() else solved
        ids, n_classes = list(dict.fromkeys(rows["ImageId"])), max(rows["ClassId"])
        given = set(zip(answered["ImageId"], answered["ClassId"], strict=True))
        _refuse_missing(csv, product(ids, range(1, n_classes + 1)), given)
        return read_labels(solution_csv, ids, n_classes), read_labels(csv, ids, n_classes)
    except LabelError as error:
        raise SubmissionError(str(error)) from error


def _layout(csv: Path) -> str:
    return layout_of(pd.read_csv(csv, nrows=0))


def _n_classes(sample_csv: Path, table: pd.DataFrame) -> int:
    """How many classes to predict: by the dataset.json beside the sample, else the largest one predicted."""
    path = sample_csv.parent / "dataset.json"
    if path.is_file():
        return read_dataset_info(path).n_classes
    return max(table["ClassId"], default=1)


def _wanted_pairs(sample: pd.DataFrame, n_classes: int) -> list[tuple[str, int]]:
    """Pairs to predict. A sample of one row an image (class 0) does not tell its classes."""
    if (sample["ClassId"] > 0).all():
        return list(zip(sample["ImageId"], sample["ClassId"], strict=True))
    return list(product(dict.fromkeys(sample["ImageId"]), range(1, n_classes + 1)))


def _refuse_missing(csv: Path, wanted: Iterable[tuple[str, int]], given: Collection) -> None:
    missing = [pair for pair in wanted if pair not in given]
    if missing:
        first = f"{missing[0][0]} class {missing[0][1]}"
        raise SubmissionError(f"{csv}: {len(missing)} rows are missing, the first {first}")
