"""Scores, on counts that can be checked by hand."""

import re

import numpy as np
import pandas as pd
import pytest

from defectmill.labels import draw_masks
from defectmill.scores import (
    count_pixels,
    count_runs,
    dice_by_image,
    dice_from_counts,
    dice_per_class,
    evaluation_table,
    mean_dice,
    pooled_dice,
    score_panel,
    soft_pixel_accuracy,
)


def table_of(*runs: tuple[str, int, str]) -> pd.DataFrame:
    table = pd.DataFrame(runs, columns=["ImageId", "ClassId", "EncodedPixels"])
    return table.assign(hasMask=table["EncodedPixels"] != "")


TRUTH = table_of(("a", 1, "1 4"), ("a", 2, ""), ("b", 1, ""), ("b", 2, "9 2"), ("c", 1, ""),
                 ("c", 2, ""))  # fmt: skip
GUESS = table_of(("a", 1, "3 4"), ("a", 2, "11 2"), ("b", 1, ""), ("b", 2, ""), ("c", 1, ""),
                 ("c", 2, ""))  # fmt: skip


def drawn(table: pd.DataFrame) -> np.ndarray:
    return np.stack([draw_masks(table, i, (3, 5), 2) for i in ("a", "b", "c")])


@pytest.mark.parametrize(
    ("both", "truth", "predicted", "dice"),
    [
        (0, 0, 0, 1.0),
        (0, 4, 0, 0.0),
        (0, 0, 4, 0.0),
        (2, 4, 4, 0.5),
        (4, 4, 4, 1.0),
        (1, 3, 1, 0.5),
    ],
)
def test_dice_of_one_pair(both, truth, predicted, dice):
    assert dice_from_counts(both, truth, predicted) == dice


def test_mean_dice_is_over_every_image_and_class():
    # a1 2*2/8, a2 false alarm, b1 empty, b2 missed, c1 and c2 empty.
    assert mean_dice(drawn(TRUTH), drawn(GUESS)) == (0.5 + 0 + 1 + 0 + 1 + 1) / 6


def test_one_picture_scores_like_a_batch_of_one():
    truth, guess = drawn(TRUTH)[0], drawn(GUESS)[0]
    assert mean_dice(truth, guess) == mean_dice(truth[None], guess[None]) == 0.25


def test_runs_and_pixels_are_counted_alike():
    from_runs = count_runs(TRUTH, GUESS)
    from_pixels = count_pixels(drawn(TRUTH), drawn(GUESS))
    for runs, pixels in zip(from_runs, from_pixels, strict=True):
        np.testing.assert_array_equal(runs, pixels)
    np.testing.assert_array_equal(from_runs[0], [[2, 0], [0, 0], [0, 0]])


def test_all_background_answer_scores_zero_per_class():
    truth = np.zeros((2, 3, 5, 2), np.uint8)
    truth[0, 1, 2, 0] = truth[1, 0, :, 1] = 1
    assert dice_per_class(truth, np.zeros_like(truth)).tolist() == [0.0, 0.0]


def test_pooled_dice_adds_up_before_it_divides():
    truth, guess = np.zeros((2, 2, 3, 2, 1), np.uint8)
    truth[0], guess[0] = 1, 1
    truth[1, 0, 0] = 1
    assert dice_per_class(truth, guess).tolist() == [2 * 6 / 13]
    assert mean_dice(truth, guess) == 0.5


def test_class_on_neither_side_is_not_measured():
    both = np.array([[1, 0]])
    pooled = pooled_dice(both, np.array([[2, 0]]), np.array([[2, 0]]))
    np.testing.assert_array_equal(pooled, [0.5, np.nan])


def test_large_areas_do_not_overflow():
    full = np.ones((1, 300, 900, 1), np.uint8)
    assert mean_dice(full, full) == 1.0
    assert count_pixels(full, full)[0].tolist() == [[270000]]


def test_arrays_of_other_shape_are_refused():
    with pytest.raises(ValueError, match=re.escape("truth (3, 5, 2) and prediction (5, 3, 2)")):
        mean_dice(np.zeros((3, 5, 2)), np.zeros((5, 3, 2)))


def test_mask_without_channels_is_refused():
    with pytest.raises(ValueError, match=re.escape("not (3, 5)")):
        mean_dice(np.zeros((3, 5)), np.zeros((3, 5)))


def test_probabilities_are_refused():
    with pytest.raises(ValueError, match="threshold probabilities first"):
        mean_dice(np.zeros((3, 5, 1)), np.full((3, 5, 1), 0.7))


def test_panel_holds_these_numbers():
    assert score_panel(TRUTH, GUESS, ["dot", "bar"]) == {
        "score": 3.5 / 6,
        "floor": 4 / 6,
        "mean_pooled_dice": 0.25,
        "images": 3,
        "classes": {
            "dot": {"pooled_dice": 0.5, "mean_dice": 2.5 / 3, "images": 1, "found": 1,
                    "false_alarms": 0},
            "bar": {"pooled_dice": 0.0, "mean_dice": 1 / 3, "images": 1, "found": 0,
                    "false_alarms": 1},
        },
    }  # fmt: skip


def test_panel_floor_is_the_score_of_the_empty_answer():
    empty = TRUTH.assign(EncodedPixels="")
    panel = score_panel(TRUTH, empty, ["dot", "bar"])
    assert panel["score"] == panel["floor"]


def test_panel_without_any_defect_measures_no_class():
    clean = table_of(("a", 1, ""), ("b", 1, ""))
    panel = score_panel(clean, clean, ["dot"])
    assert (panel["score"], panel["mean_pooled_dice"]) == (1.0, None)
    assert panel["classes"]["dot"]["pooled_dice"] is None


def test_worst_image_comes_first_and_clean_ones_are_out():
    dice = dice_by_image(TRUTH, GUESS)
    assert dice.index.tolist() == ["b", "a"]
    assert dice.tolist() == [0.0, 2 * 2 / 10]


def test_tables_of_other_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        count_runs(TRUTH, GUESS.iloc[:-1])


def test_soft_pixel_accuracy_by_hand_beside_background_alone():
    truth = np.zeros((2, 3, 2), np.uint8)
    truth[0, 0, 0] = truth[1, 2, 1] = 1
    probs = np.zeros((2, 3, 2))
    probs[0, 0] = 0.7, 0.1  # right: 0.7
    probs[0, 1] = 0.2, 0.2  # background: 0.6
    pairs = [(probs, truth), (probs * 0, truth * 0)]
    one_a_pixel = soft_pixel_accuracy(pairs, exclusive=True)
    assert one_a_pixel == pytest.approx(((0.7 + 0.6 + 3 + 0 + 6) / 12, 10 / 12))
    one_a_class = soft_pixel_accuracy(pairs, exclusive=False)
    assert one_a_class == pytest.approx(((0.7 + 0.9 + 0.8 + 0.8 + 7 + 0 + 12) / 24, 22 / 24))
    with pytest.raises(ValueError, match="no pictures"):
        soft_pixel_accuracy([], exclusive=True)


def test_evaluation_holds_the_flattering_measure_beside_the_true_ones():
    panel = {"score": 0.9, "floor": 0.8, "mean_pooled_dice": 0.5,
             "classes": {"dent": {"pooled_dice": 0.5}, "oil": {"pooled_dice": None}}}  # fmt: skip
    table = evaluation_table(panel, (0.98, 0.95)).set_index("measure")["value"]
    assert table["soft_pixel_accuracy"] == 0.98
    assert table["soft_pixel_accuracy of background alone"] == 0.95
    assert table["Dice dent"] == 0.5
    assert np.isnan(table["Dice oil"])
