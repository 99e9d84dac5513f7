"""Submissions: write, check by Kaggle's rules, score.

The layout is that of the sample_submission.csv in the competition folder.
"""

from pathlib import Path

import pandas as pd

from defectmill.labels import LAYOUTS, LabelError, list_pairs, read_csv, read_labels, write_labels
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
        SubmissionError: a prediction for an image that the sample does not have.
    """
    csv, sample_csv = Path(csv), Path(sample_csv)
    sample = read_csv(sample_csv)
    ids = list(dict.fromkeys(sample["ImageId"]))
    strange = ~labels["ImageId"].isin(ids)
    if strange.any():
        raise SubmissionError(f"{labels['ImageId'][strange].iloc[0]} is not in {sample_csv}")
    runs = labels.set_index(["ImageId", "ClassId"])["EncodedPixels"]
    pairs = pd.MultiIndex.from_tuples(_wanted_pairs(sample_csv, int(labels["ClassId"].max())))
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

    Every image and class of the sample exactly once; runs sorted, positive, disjoint and inside
    the image.

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
    largest = int(table["ClassId"].max()) if len(table) else 1
    wanted = dict.fromkeys(_wanted_pairs(sample_csv, largest))
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
    clean images: those come from the submission.

    Raises:
        SubmissionError: a pair of the solution is missing or stands twice, or runs are malformed.
    """
    truth, predicted = read_pair_of_tables(csv, solution_csv)
    return float(dice_from_counts(*count_runs(truth, predicted)).mean())


def read_pair_of_tables(csv: Path, solution_csv: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read solution and submission as two label tables of the same rows in one order."""
    try:
        answered, solved = read_csv(csv), read_csv(solution_csv)
        ids = list(dict.fromkeys([*solved["ImageId"], *answered["ImageId"]]))
        n_classes = max(int(answered["ClassId"].max()), int(solved["ClassId"].max()))
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


def _layout(sample_csv: Path) -> str:
    header = sample_csv.open().readline().strip().split(",")
    return "2019" if LAYOUTS["2019"][0] in header else "current"


def _wanted_pairs(sample_csv: Path, largest_class: int) -> list[tuple[str, int]]:
    """Pairs to answer. A sample of one row an image (class 0) does not tell its classes."""
    sample = read_csv(sample_csv)
    if (sample["ClassId"] > 0).all():
        return list(zip(sample["ImageId"], sample["ClassId"], strict=True))
    return list_pairs(list(dict.fromkeys(sample["ImageId"])), largest_class)
