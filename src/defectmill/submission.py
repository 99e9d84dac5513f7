"""Submissions: write, check by Kaggle's rules, score.

The layout is that of the sample_submission.csv in the competition folder.
"""

from pathlib import Path

import pandas as pd

from defectmill.cards import Card
from defectmill.labels import (
    LabelError,
    layout_of,
    list_pairs,
    read_csv,
    read_labels,
    write_labels,
)
from defectmill.rle import RleError, check_rle
from defectmill.scores import count_runs, dice_from_counts


class SubmissionError(ValueError):
    """A submission that Kaggle would refuse: row and offence."""


def write_submission(labels: pd.DataFrame, csv: Path, sample_csv: Path) -> None:
    """Write predictions in the sample's layout, one row for every (image, class).

    Args:
        labels: label table of the predictions; pairs that it lacks are written as empty.
        csv: appears under its name only when it is whole.
        sample_csv: gives layout, images and their order.
    Raises:
        SubmissionError: a prediction that the sample does not ask for, a pair twice, or no
            prediction at all where the sample does not tell its classes.
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
    work = csv.with_name(csv.name + ".part")
    work.parent.mkdir(parents=True, exist_ok=True)
    if _layout(sample_csv) == "2019":
        write_labels(table, work, "2019")
    else:
        columns = ["ImageId", "EncodedPixels", "ClassId"]
        table[columns].to_csv(work, index=False, lineterminator="\n")
    work.replace(csv)


def check_submission(csv: Path, sample_csv: Path, images: pd.DataFrame) -> None:
    """Check a submission by the competition's rules.

    The sample's layout; every image and class of the sample exactly once; runs sorted, positive,
    disjoint and inside the image.

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
    if _layout(csv) != _layout(sample_csv):
        raise SubmissionError(
            f"{csv} row 1: has the {_layout(csv)} layout, {sample_csv} the {_layout(sample_csv)}"
        )
    wanted = dict.fromkeys(_wanted_pairs(read_csv(sample_csv), _n_classes(sample_csv, table)))
    shapes = {i: (int(h), int(w)) for i, h, w in
              images[["ImageId", "height", "width"]].itertuples(index=False)}  # fmt: skip
    seen: dict[tuple[str, int], int] = {}
    for row, (image_id, class_id, rle) in enumerate(table.itertuples(index=False), 2):
        pair, where = (image_id, class_id), f"{csv} row {row}"
        if pair not in wanted:
            raise SubmissionError(f"{where}: {image_id} class {class_id} is not asked for")
        if pair in seen:
            raise SubmissionError(f"{where}: {image_id} class {class_id} again (row {seen[pair]})")
        seen[pair] = row
        if image_id not in shapes:
            raise SubmissionError(f"{where}: {image_id} is not in the image table")
        try:
            check_rle(rle, shapes[image_id])
        except RleError as error:
            raise SubmissionError(f"{where}: {image_id} class {class_id}: {error}") from error
    missing = [pair for pair in wanted if pair not in seen]
    if missing:
        image_id, class_id = missing[0]
        raise SubmissionError(
            f"{csv}: {len(missing)} rows are missing, the first {image_id} class {class_id}"
        )


def score_submission(csv: Path, solution_csv: Path) -> float:
    """The competition's score of a submission: mean Dice over every (image, class).

    Computed on runs; no picture is needed. A solution that lists defects only says nothing of
    clean images: those come from the submission. One with empty rows lists them all.

    Raises:
        SubmissionError: a pair of the solution is missing or stands twice, an image or class
            that a full solution does not have, malformed runs, or an empty table.
    """
    truth, predicted = read_pair_of_tables(csv, solution_csv)
    return float(dice_from_counts(*count_runs(truth, predicted)).mean())


def read_pair_of_tables(csv: Path, solution_csv: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read solution and submission as two label tables of the same rows in one order."""
    try:
        answered, solved = read_csv(csv), read_csv(solution_csv)
        if solved.empty:
            raise SubmissionError(f"{solution_csv}: has no rows")
        ids, n_classes = solved["ImageId"], _largest_class(solved)
        if (solved["EncodedPixels"] != "").all():
            ids = [*ids, *answered["ImageId"]]
            n_classes = max(n_classes, _largest_class(answered))
        ids = list(dict.fromkeys(ids))
        given = set(zip(answered["ImageId"], answered["ClassId"], strict=True))
        missing = [pair for pair in list_pairs(ids, n_classes) if pair not in given]
        if missing:
            image_id, class_id = missing[0]
            raise SubmissionError(
                f"{csv}: {len(missing)} rows are missing, the first {image_id} class {class_id}"
            )
        return (
            read_labels(solution_csv, image_ids=ids, n_classes=n_classes),
            read_labels(csv, image_ids=ids, n_classes=n_classes),
        )
    except LabelError as error:
        raise SubmissionError(str(error)) from error


def _layout(csv: Path) -> str:
    return layout_of(pd.read_csv(csv, nrows=0))


def _largest_class(table: pd.DataFrame) -> int:
    return int(table["ClassId"].max()) if len(table) else 1


def _n_classes(sample_csv: Path, table: pd.DataFrame) -> int:
    """How many classes to answer: by the card beside the sample, else the largest answered."""
    card = sample_csv.parent / "dataset.json"
    if card.is_file():
        return len(Card.model_validate_json(card.read_text()).classes)
    return _largest_class(table)


def _wanted_pairs(sample: pd.DataFrame, n_classes: int) -> list[tuple[str, int]]:
    """Pairs to answer. A sample of one row an image (class 0) does not tell its classes."""
    if (sample["ClassId"] > 0).all():
        return list(zip(sample["ImageId"], sample["ClassId"], strict=True))
    return list_pairs(list(dict.fromkeys(sample["ImageId"])), n_classes)
