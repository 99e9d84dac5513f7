"""Scores, on counts that can be checked by hand."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectmill.labels import draw_masks, make_label_table, masks_to_labels
from defectmill.scores import (
    competition_score,
    count_levels,
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


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32, list])
def test_masks_of_any_type_count_alike(kind):
    truth, guess = (drawn(table)[:1] for table in (TRUTH, GUESS))
    pair = [masks.tolist() if kind is list else masks.astype(kind) for masks in (truth, guess)]
    assert [counts.tolist() for counts in count_pixels(*pair)] == [[[2, 0]], [[4, 0]], [[4, 2]]]
    assert {counts.dtype for counts in count_pixels(*pair)} == {np.dtype(np.int64)}


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


def test_an_image_of_false_alarms_alone_counts_as_the_worst():
    truth, guess = table_of("1 4", "", "", "", "", ""), table_of("1 4", "", "", "9 2", "", "")
    assert dice_by_image(truth, guess).to_dict() == {"b": 0.0, "a": 1.0}


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.floats(0, 1), st.floats(0, 1))
def test_all_dice_follow_from_sets_of_pixels(seed, n, n_classes, share, other):
    rng = np.random.default_rng(seed)
    truth, guess = (rng.random((n, 3, 4, n_classes)) < s for s in (share * rng.integers(0, 2), other))
    ids = [f"{k}" for k in range(n)]
    tables = [masks_to_labels(zip(ids, masks.astype(np.uint8), strict=True)) for masks in (truth, guess)]
    each = np.ones((n, n_classes))
    for k, c in np.ndindex(n, n_classes):
        one, two = ({*np.flatnonzero(masks[k, :, :, c]).tolist()} for masks in (truth, guess))
        each[k, c] = 2 * len(one & two) / (len(one) + len(two)) if one | two else 1
    assert mean_dice(truth, guess) == pytest.approx(each.mean())
    assert competition_score(*count_runs(*tables)) == pytest.approx(each.mean())
    assert mean_dice(truth, guess) == mean_dice(guess, truth)
    sizes = (truth.sum(axis=(0, 1, 2)) + guess.sum(axis=(0, 1, 2))).astype(float)
    shared = np.where(sizes > 0, 2 * (truth & guess).sum(axis=(0, 1, 2)) / np.maximum(sizes, 1), np.nan)
    np.testing.assert_allclose(dice_per_class(truth, guess), shared)
    seen = (truth | guess).any(axis=(1, 2, 3))
    whole = (
        2
        * (truth & guess).sum(axis=(1, 2, 3))
        / np.maximum(truth.sum(axis=(1, 2, 3)) + guess.sum(axis=(1, 2, 3)), 1)
    )
    found = dice_by_image(*tables)
    assert found.to_dict() == pytest.approx({ids[k]: whole[k] for k in np.flatnonzero(seen)})
    assert found.is_monotonic_increasing


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_levels_hold_every_pixel_once_by_probability_and_truth(seed, n_classes):
    rng = np.random.default_rng(seed)
    levels, truth = rng.integers(0, 256, (4, 5, n_classes)), rng.integers(0, 2, (4, 5, n_classes))
    counts = count_levels((levels / 255).astype(np.float32), truth)
    assert counts.shape == (n_classes, 512)
    for c, level in np.ndindex(n_classes, 256):
        has = levels[:, :, c] == level
        assert counts[c, level] == (has & (truth[:, :, c] == 0)).sum()
        assert counts[c, 256 + level] == (has & (truth[:, :, c] == 1)).sum()
