"""Scores, on counts that can be checked by hand."""

import re

import numpy as np
import pandas as pd
import pytest

from defectmill.labels import draw_masks, make_label_table
from defectmill.scores import (
    competition_score,
    count_pixels,
    count_runs,
    dice_by_image,
    dice_from_counts,
    dice_per_class,
    mean_dice,
    micro_dice,
)

PAIRS = [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1), ("c", 2)]


def table_of(*runs: str) -> pd.DataFrame:
    return make_label_table((*pair, rle) for pair, rle in zip(PAIRS, runs, strict=True))


TRUTH = table_of("1 4", "", "", "9 2", "", "")
GUESS = table_of("3 4", "11 2", "", "", "", "")


def drawn(table: pd.DataFrame) -> np.ndarray:
    return np.stack([draw_masks(table, i, (3, 5), 2) for i in ("a", "b", "c")])


@pytest.mark.parametrize(
    ("both", "truth", "predicted", "dice"),
    [(0, 0, 0, 1.0), (0, 4, 0, 0.0), (0, 0, 4, 0.0), (2, 4, 4, 0.5), (4, 4, 4, 1.0), (1, 3, 1, 0.5)],
)
def test_dice_of_one_pair(both, truth, predicted, dice):
    assert dice_from_counts(both, truth, predicted) == dice


def test_mean_dice_is_over_every_image_and_class():
    # a1 2*2/8, a2 false alarm, b1 empty, b2 missed, c1 and c2 empty.
    assert mean_dice(drawn(TRUTH), drawn(GUESS)) == (0.5 + 0 + 1 + 0 + 1 + 1) / 6
    assert competition_score(*count_runs(TRUTH, GUESS)) == (0.5 + 0 + 1 + 0 + 1 + 1) / 6


def test_one_image_scores_like_a_batch_of_one():
    truth, guess = drawn(TRUTH)[0], drawn(GUESS)[0]
    assert mean_dice(truth, guess) == mean_dice(truth[None], guess[None]) == 0.25


def test_runs_and_pixels_are_counted_alike():
    from_runs = count_runs(TRUTH, GUESS)
    from_pixels = count_pixels(drawn(TRUTH), drawn(GUESS))
    for runs, pixels in zip(from_runs, from_pixels, strict=True):
        np.testing.assert_array_equal(runs, pixels)
    np.testing.assert_array_equal(from_runs[0], [[2, 0], [0, 0], [0, 0]])


def test_predicting_only_background_scores_zero_per_class():
    truth = np.zeros((2, 3, 5, 2), np.uint8)
    truth[0, 1, 2, 0] = truth[1, 0, :, 1] = 1
    assert dice_per_class(truth, np.zeros_like(truth)).tolist() == [0.0, 0.0]


def test_micro_dice_adds_up_before_it_divides():
    truth, guess = np.zeros((2, 2, 3, 2, 1), np.uint8)
    truth[0], guess[0] = 1, 1
    truth[1, 0, 0] = 1
    assert dice_per_class(truth, guess).tolist() == [2 * 6 / 13]
    assert mean_dice(truth, guess) == 0.5


def test_class_on_neither_side_is_not_measured():
    both = np.array([[1, 0]])
    dice = micro_dice(both, np.array([[2, 0]]), np.array([[2, 0]]))
    np.testing.assert_array_equal(dice, [0.5, np.nan])


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


def test_worst_image_comes_first_and_clean_ones_are_out():
    dice = dice_by_image(TRUTH, GUESS)
    assert dice.index.tolist() == ["b", "a"]
    assert dice.tolist() == [0.0, 2 * 2 / 10]


def test_tables_of_other_length_are_refused():
    with pytest.raises(ValueError, match="same rows"):
        count_runs(TRUTH, GUESS.iloc[:-1])
