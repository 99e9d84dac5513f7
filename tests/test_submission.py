"""Submissions: Kaggle's rules, and the score on runs."""

import re
import tracemalloc
import unicodedata

import numpy as np
import pandas as pd
import pytest

from defectmill.images import write_image
from defectmill.labels import LabelError, make_label_table, read_csv, read_labels
from defectmill.submission import (
    SubmissionError,
    asked_images,
    check_submission,
    read_aligned,
    score_submission,
    write_submission,
)
from fake_competition import make_info

OLD = "ImageId_ClassId,EncodedPixels"
NOW = "ImageId,EncodedPixels,ClassId"
IMAGES = pd.DataFrame({"ImageId": ["b_1.jpg", "a.jpg"], "height": [3, 5], "width": [5, 2]})


def predictions(*rows: tuple[str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["ImageId", "ClassId", "EncodedPixels"])


@pytest.fixture
def sample(table_file):
    lines = [f"{i}_{c},1 1" for i in ("b_1.jpg", "a.jpg") for c in (1, 2)]
    return table_file(OLD, *lines, name="sample.csv")


@pytest.fixture
def sample_now(table_file):
    return table_file(NOW, "b_1.jpg,1 15,0", "a.jpg,1 10,0", name="sample_now.csv")


def test_submission_has_the_rows_and_the_order_of_the_sample(sample, tmp_path):
    csv = tmp_path / "out" / "submission.csv"
    write_submission(predictions(("a.jpg", 2, "2 4"), ("b_1.jpg", 1, "1 15")), csv, sample)
    assert csv.read_bytes() == (
        b"ImageId_ClassId,EncodedPixels\nb_1.jpg_1,1 15\nb_1.jpg_2,\na.jpg_1,\na.jpg_2,2 4\n"
    )
    check_submission(csv, sample, IMAGES)


def test_todays_layout_has_a_row_for_each_class(sample_now, tmp_path):
    csv = tmp_path / "submission.csv"
    write_submission(predictions(("a.jpg", 2, "2 4")), csv, sample_now)
    assert csv.read_text() == f"{NOW}\nb_1.jpg,,1\nb_1.jpg,,2\na.jpg,,1\na.jpg,2 4,2\n"
    check_submission(csv, sample_now, IMAGES)


def test_classes_are_those_of_the_dataset_beside_the_sample(sample_now, tmp_path):
    (tmp_path / "dataset.json").write_text(make_info(n_classes=3).model_dump_json())
    csv = tmp_path / "submission.csv"
    write_submission(predictions(("b_1.jpg", 1, "1 15")), csv, sample_now)
    rows = ["b_1.jpg,1 15,1", "b_1.jpg,,2", "b_1.jpg,,3", "a.jpg,,1", "a.jpg,,2", "a.jpg,,3"]
    assert csv.read_text().splitlines() == [NOW, *rows]
    check_submission(csv, sample_now, IMAGES)


def test_every_run_cell_is_plain_numbers(sample, tmp_path):
    csv = tmp_path / "submission.csv"
    write_submission(predictions(("a.jpg", 2, "2 4 9 1")), csv, sample)
    for runs in read_csv(csv)["EncodedPixels"]:
        assert re.fullmatch(r"(\d+ \d+( \d+ \d+)*)?", runs)


def test_no_prediction_at_all_is_an_empty_submission(sample, tmp_path):
    csv = tmp_path / "submission.csv"
    write_submission(predictions(), csv, sample)
    assert read_csv(csv)["EncodedPixels"].tolist() == [""] * 4


def test_no_prediction_and_a_sample_without_classes_is_refused(sample_now, tmp_path):
    with pytest.raises(SubmissionError, match=re.escape(f"{sample_now} does not tell its classes")):
        write_submission(predictions(), tmp_path / "submission.csv", sample_now)


def test_a_sample_that_asks_for_nothing_is_refused_where_there_are_test_images(table_file, tmp_path):
    empty = table_file(OLD, name="sample_submission.csv")
    write_submission(predictions(), tmp_path / "submission.csv", empty)
    assert (tmp_path / "submission.csv").read_text() == f"{OLD}\n"
    (tmp_path / "test_images").mkdir()
    write_image(tmp_path / "test_images" / "a.png", np.zeros((4, 7), np.uint8))
    with pytest.raises(SubmissionError, match="asks for no image"):
        write_submission(predictions(), tmp_path / "submission.csv", empty)


@pytest.mark.parametrize(
    ("rows", "offence"),
    [
        ([("c.jpg", 1, "1 1")], "c.jpg class 1 is not asked for"),
        ([("a.jpg", 3, "1 1")], "a.jpg class 3 is not asked for"),
        ([("a.jpg", 2, "1 1"), ("a.jpg", 2, "")], "a.jpg class 2 is predicted twice"),
        ([("a.jpg", 2, "1 1"), ("d.jpg", 1, ""), ("c.jpg", 1, "")], "d.jpg class 1 is not asked for"),
    ],
)
def test_prediction_that_would_be_lost_is_refused(sample, tmp_path, rows, offence):
    with pytest.raises(SubmissionError, match=offence):
        write_submission(predictions(*rows), tmp_path / "submission.csv", sample)
    assert not (tmp_path / "submission.csv").exists()


def test_sample_with_a_byte_order_mark_keeps_its_layout(table_file, tmp_path):
    marked = table_file(OLD, "a.jpg_1,1 1", "a.jpg_2,1 1", bom=True)
    write_submission(predictions(("a.jpg", 2, "2 4")), tmp_path / "submission.csv", marked)
    assert (tmp_path / "submission.csv").read_text() == f"{OLD}\na.jpg_1,\na.jpg_2,2 4\n"


GOOD = ["b_1.jpg_1,1 3", "b_1.jpg_2,", "a.jpg_1,", "a.jpg_2,2 4 9 1"]


def test_rows_may_come_in_any_order(table_file, sample):
    check_submission(table_file(OLD, *GOOD[::-1]), sample, IMAGES)


@pytest.mark.parametrize(
    ("rows", "offence"),
    [
        (GOOD[:3], "1 rows are missing, the first a.jpg class 2"),
        ([], "4 rows are missing, the first b_1.jpg class 1"),
        ([*GOOD, "a.jpg_2,"], "row 6: a.jpg class 2 again (row 5)"),
        ([*GOOD, "a.jpg_3,"], "row 6: a.jpg class 3 is not asked for"),
        ([*GOOD, "a.jpg_0,"], "row 6: a.jpg class 0 is not asked for"),
        ([*GOOD, "c.jpg_1,"], "row 6: c.jpg class 1 is not asked for"),
        (["b_1.jpg_1,1 16"], "row 2: b_1.jpg class 1: run 1 (1 16) leaves the image of 3 x 5"),
        (["b_1.jpg_1,1 3 2 1"], "row 2: b_1.jpg class 1: run 2 (2 1) overlaps run 1 (1 3)"),
        (["b_1.jpg_1,4 1 2 1"], "row 2: b_1.jpg class 1: run 2 (2 1) is not sorted"),
        (["b_1.jpg_1,1 0"], "row 2: b_1.jpg class 1: run 1 (1 0) is not positive"),
        (["b_1.jpg_1,1"], "row 2: b_1.jpg class 1: not 'start length' pairs"),
        (["b_1.jpg_1,nan"], "'nan'"),
        (["b_1.jpg,1 3"], "row 2: not '<image id>_<class id>': 'b_1.jpg'"),
    ],
)
def test_offence_is_named_with_file_and_row(table_file, sample, rows, offence):
    csv = table_file(OLD, *rows)
    with pytest.raises(SubmissionError) as caught:
        check_submission(csv, sample, IMAGES)
    assert str(csv) in str(caught.value)
    assert offence in str(caught.value)


def test_a_submission_in_the_other_layout_is_refused(table_file, sample):
    csv = table_file(NOW, *[f"{i},,{c}" for i in ("b_1.jpg", "a.jpg") for c in (1, 2)])
    with pytest.raises(SubmissionError, match=r"row 1: has the current layout, .* the 2019"):
        check_submission(csv, sample, IMAGES)


def test_image_of_unknown_size_is_refused(table_file, sample):
    with pytest.raises(SubmissionError, match=r"row 4: a\.jpg is not in the image table"):
        check_submission(table_file(OLD, *GOOD), sample, IMAGES[:1])


SOLUTION = ["b_1.jpg_1,1 4", "b_1.jpg_2,", "a.jpg_1,", "a.jpg_2,9 2"]


def test_score_is_that_of_the_competition(table_file):
    solution = table_file(OLD, *SOLUTION, name="solution.csv")
    submission = table_file(OLD, "a.jpg_2,", "b_1.jpg_1,3 4", "b_1.jpg_2,", "a.jpg_1,1 1")
    assert score_submission(submission, solution) == (0.5 + 1 + 0 + 0) / 4


def test_the_solution_scores_one_and_the_empty_submission_its_floor(table_file):
    solution = table_file(OLD, *SOLUTION, name="solution.csv")
    empty = table_file(OLD, *[line.partition(",")[0] + "," for line in SOLUTION])
    assert score_submission(solution, solution) == 1.0
    assert score_submission(empty, solution) == 0.5


def test_layouts_of_submission_and_solution_may_differ(table_file):
    solution = table_file("ImageId,ClassId,EncodedPixels", "b.jpg,1,1 4", name="solution.csv")
    submission = table_file(OLD, "b.jpg_1,3 4", "b.jpg_2,", "clean.jpg_1,", "clean.jpg_2,5 1")
    assert score_submission(submission, solution) == (0.5 + 1 + 1 + 0) / 4


def test_tables_come_in_the_order_of_the_solution(table_file):
    solution = table_file(OLD, *SOLUTION, name="solution.csv")
    truth, predicted = read_aligned(table_file(OLD, *SOLUTION[::-1]), solution)
    assert truth["ImageId"].tolist() == ["b_1.jpg", "b_1.jpg", "a.jpg", "a.jpg"]
    pd.testing.assert_frame_equal(truth, predicted)


@pytest.mark.parametrize(
    ("rows", "offence"),
    [
        (SOLUTION[1:], "1 rows are missing, the first b_1.jpg class 1"),
        ([], "4 rows are missing"),
        ([*SOLUTION, "a.jpg_2,9 2"], "row 6: a.jpg class 2 stands above too"),
        ([*SOLUTION, "extra.jpg_1,", "extra.jpg_2,"], "row 6: no image file 'extra.jpg'"),
        ([*SOLUTION, "a.jpg_3,", "b_1.jpg_3,"], "row 6: class id 3 is outside 1..2"),
        (["b_1.jpg_1,4", *SOLUTION[1:]], "row 2: b_1.jpg class 1: not 'start length' pairs"),
    ],
)
def test_a_submission_that_cannot_be_scored_is_named(table_file, rows, offence):
    csv, solution = table_file(OLD, *rows), table_file(OLD, *SOLUTION, name="solution.csv")
    with pytest.raises(SubmissionError) as caught:
        score_submission(csv, solution)
    assert str(csv) in str(caught.value)
    assert offence in str(caught.value)


def test_an_empty_submission_lacks_every_row_of_a_solution_that_lists_defects_only(table_file):
    solution = table_file(OLD, "b_1.jpg_1,1 4", name="solution.csv")
    with pytest.raises(SubmissionError, match=r"1 rows are missing, the first b_1\.jpg class 1"):
        score_submission(table_file(OLD), solution)


def test_a_class_of_four_digits_is_refused_before_it_takes_memory(table_file):
    ids, told = [f"{n}.jpg" for n in range(300)], r"row 302: class id 9999: .* 255 is the largest"
    current = table_file(NOW, *[f"{i},,1" for i in ids], "7.jpg,1 1,9999")
    sample = table_file(NOW, *[f"{i},1 1,0" for i in ids], name="sample.csv")
    solution = table_file(NOW, "7.jpg,1 4,1", name="solution.csv")
    sizes = pd.DataFrame({"ImageId": ids, "height": 3, "width": 5})
    tracemalloc.start()
    with pytest.raises(SubmissionError, match=re.escape(str(current)) + " " + told):
        check_submission(current, sample, sizes)
    for pair in ((current, solution), (solution, current)):
        with pytest.raises(SubmissionError, match=re.escape(str(current)) + " " + told):
            score_submission(*pair)
    with pytest.raises(LabelError, match=told):
        read_labels(current)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    # Of the largest that is allowed the rows that are missing are counted, and not kept.
    largest = table_file(NOW, *[f"{i},,1" for i in ids], "7.jpg,1 1,255", name="largest.csv")
    with pytest.raises(
        SubmissionError, match=r"largest\.csv: 76199 rows are missing, the first 7\.jpg class 2"
    ):
        score_submission(largest, solution)


def test_solution_without_rows_is_refused(table_file):
    solution = table_file(OLD, name="solution.csv")
    with pytest.raises(SubmissionError, match=r"solution\.csv: has no rows"):
        score_submission(table_file(OLD, *SOLUTION), solution)


def test_a_pair_that_stands_twice_is_refused_though_labels_would_join_it(table_file):
    solution = table_file(OLD, *SOLUTION, "a.jpg_2,11 1", name="solution.csv")
    assert score_submission(table_file(OLD, *SOLUTION[:3], "a.jpg_2,9 3"), solution) == 1
    with pytest.raises(SubmissionError, match=r"row 5: b_1\.jpg class 1 stands above too"):
        score_submission(table_file(OLD, *SOLUTION[:3], "b_1.jpg_1,1 1", SOLUTION[3]), solution)


def test_a_solution_with_a_word_for_no_runs_lists_the_clean_images(table_file):
    solution = table_file(OLD, "b.jpg_1,1 4", "clean.jpg_1,-1", name="solution.csv")
    with pytest.raises(SubmissionError, match=r"row 4: no image file 'more\.jpg'"):
        score_submission(table_file(OLD, "b.jpg_1,1 4", "clean.jpg_1,", "more.jpg_1,"), solution)


DISK = unicodedata.normalize("NFD", "ä 1.png")
ASKED = ["b", unicodedata.normalize("NFC", DISK)]
FILES = pd.DataFrame({"ImageId": [DISK, "b.png"], "height": [3, 5], "width": [5, 2]})


@pytest.fixture
def folder(tmp_path):
    """A competition folder with two test images, of 3 x 5 and 5 x 2, and no sample."""
    for image_id, height, width in FILES.itertuples(index=False):
        (tmp_path / "test_images").mkdir(exist_ok=True)
        write_image(tmp_path / "test_images" / image_id, np.full((height, width), 9, np.uint8))
    (tmp_path / "dataset.json").write_text(make_info(n_classes=2).model_dump_json())
    return tmp_path


def test_a_submission_names_images_as_the_sample_does_and_tables_as_their_files(folder, table_file):
    sample = table_file(
        OLD, *[f"{name}_{c},1 1" for name in ASKED for c in (1, 2)], name="sample_submission.csv"
    )
    assert asked_images(sample) == ["b.png", DISK]
    answers = make_label_table([(DISK, 2, "1 15"), ("b.png", 1, "10 1")])
    csv = folder / "submission.csv"
    write_submission(answers, csv, sample)
    assert csv.read_text("utf-8").splitlines()[1:] == [
        "b_1,10 1",
        "b_2,",
        f"{ASKED[1]}_1,",
        f"{ASKED[1]}_2,1 15",
    ]
    check_submission(csv, sample, FILES)
    with pytest.raises(SubmissionError, match=r"row 5: .* leaves the image of 5 x 2"):
        check_submission(csv, sample, FILES.assign(height=5, width=2))
    solution = table_file(OLD, "b.png_1,10 1", "b.png_2,", f"{DISK}_2,", name="solution.csv")
    truth, predicted = read_aligned(csv, solution, FILES["ImageId"])
    assert truth["ImageId"].tolist() == ["b.png", "b.png", DISK, DISK]
    assert predicted["EncodedPixels"].tolist() == ["10 1", "", "", "1 15"]


@pytest.mark.parametrize(
    ("train", "lines"),
    [
        ([OLD], [OLD, f"{DISK}_1,", f"{DISK}_2,", "b.png_1,", "b.png_2,2 1"]),
        (["ImageId,ClassId,EncodedPixels"], [NOW, f"{DISK},,1", f"{DISK},,2", "b.png,,1", "b.png,2 1,2"]),
        ([], [NOW, f"{DISK},,1", f"{DISK},,2", "b.png,,1", "b.png,2 1,2"]),
    ],
)
def test_without_a_sample_all_test_images_are_asked_for_in_the_layout_of_train_csv(
    folder, table_file, train, lines
):
    if train:
        table_file(*train, name="train.csv")
    sample, csv = folder / "sample_submission.csv", folder / "submission.csv"
    ids = asked_images(sample)
    assert sorted(ids) == sorted(FILES["ImageId"])
    write_submission(make_label_table([("b.png", 2, "2 1")]), csv, sample)
    written = csv.read_text("utf-8").splitlines()
    assert (written[0], sorted(written)) == (lines[0], sorted(lines))
    check_submission(csv, sample, FILES)


def test_without_test_images_the_submission_is_a_header(tmp_path, table_file):
    sample, csv = tmp_path / "sample_submission.csv", tmp_path / "submission.csv"
    assert asked_images(sample) == []
    write_submission(predictions(), csv, sample)
    assert csv.read_text() == f"{NOW}\n"
    check_submission(csv, sample, FILES[:0])


def test_a_sample_that_asks_for_what_is_not_there_is_refused(folder, table_file):
    sample = table_file(NOW, "b.png,1 1,0", "bb.png,1 1,0", name="sample_submission.csv")
    said = f"{sample} row 3: test_images has no 'bb.png'; did you mean 'b.png'?"
    with pytest.raises(SubmissionError, match=re.escape(said)):
        asked_images(sample)
    with pytest.raises(SubmissionError, match="asks for no image; without the file all of test_images"):
        asked_images(table_file(NOW, name="sample_submission.csv"))
