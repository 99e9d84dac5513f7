"""A submission is whole from the first moment."""

import numpy as np
import pandas as pd
import pytest

from defectmill.kaggle.answers import Answers
from defectmill.submission import SubmissionError
from fake_competition import write_fake_competition


@pytest.fixture(params=["2019", "current"])
def folder(request, tmp_path):
    write_fake_competition(tmp_path / "bars", layout=request.param)
    (tmp_path / "bars" / "dataset.json").unlink()  # a competition at Kaggle has none
    return tmp_path / "bars"


def write(folder, csv, **masks):
    from fake_competition import make_info

    answers = Answers(folder, make_info("bars"))
    for name, drawn in masks.items():
        answers.add(f"{name}.png", drawn)
    answers.write(csv)
    return answers, pd.read_csv(csv, keep_default_na=False)


def test_before_any_answer_every_pair_is_there_and_empty(folder, tmp_path):
    answers, table = write(folder, tmp_path / "submission.csv")
    assert len(answers.image_ids) == 4
    assert len(table) == 8
    assert (table["EncodedPixels"] == "").all()


def test_an_answer_is_written_and_the_others_stay_empty(folder, tmp_path):
    masks = np.zeros((37, 53, 2), np.uint8)
    masks[1:3, 2, 1] = 1
    _, table = write(folder, tmp_path / "submission.csv", bar_012=masks)
    (row,) = table[table["EncodedPixels"] != ""].to_dict("records")
    assert row["EncodedPixels"] == f"{2 * 37 + 2} 2"
    assert (row.get("ImageId_ClassId") or f"{row['ImageId']}_{row['ClassId']}") == "bar_012.png_2"


def test_what_kaggle_would_refuse_leaves_the_submission_that_stands(folder, tmp_path):
    answers, before = write(folder, tmp_path / "submission.csv")
    answers.add("of_another.png", np.ones((3, 5, 2), np.uint8))
    answers._runs["bar_012.png", 1] = "1 999999"
    with pytest.raises(SubmissionError, match=r"bar_012\.png"):
        answers.write(tmp_path / "submission.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "submission.csv", keep_default_na=False), before)
