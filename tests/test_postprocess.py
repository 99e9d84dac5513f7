"""Thresholds, peaks and minimum areas, on maps drawn by hand."""

import re

import numpy as np
import pytest

from defectmill.labels import draw_masks
from defectmill.postprocess import (
    Rule,
    keep_likeliest,
    make_masks,
    masks_to_labels,
    select_blobs,
)

# Blobs above 0.5: 3 pixels (joined by a corner) with peak 0.8, and 2 pixels with peak 0.6.
MAP = np.array([[0.8, 0.0, 0.0, 0.6, 0.6], [0.7, 0.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0, 0.5]])
LARGE = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], bool)
SMALL = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(0.5, 0.5, 0), LARGE | SMALL),
        (Rule(0.5, 0.5, 2), LARGE | SMALL),
        (Rule(0.5, 0.5, 3), LARGE),
        (Rule(0.5, 0.5, 4), LARGE & SMALL),
        (Rule(0.5, 0.6, 0), LARGE | SMALL),
        (Rule(0.5, 0.7, 0), LARGE),
        (Rule(0.5, 0.8, 0), LARGE),
        (Rule(0.5, 0.9, 0), LARGE & SMALL),
        (Rule(1.0, 1.0, 0), LARGE & SMALL),
    ],
)
def test_blob_stands_where_it_obeys_the_rule(rule, expected):
    np.testing.assert_array_equal(select_blobs(MAP, rule), expected)


def test_probability_must_exceed_the_threshold():
    assert select_blobs(MAP, Rule(0.49, 0, 0))[2, 4]
    assert not select_blobs(MAP, Rule(0.5, 0, 0))[2, 4]


def test_threshold_of_one_predicts_nothing_even_where_all_is_sure():
    assert not select_blobs(np.ones((3, 5)), Rule(1.0, 1.0, 0)).any()


def test_empty_map_has_no_blobs():
    assert not select_blobs(np.zeros((3, 5)), Rule(0.5, 0.5, 0)).any()


def test_only_the_likeliest_class_stands_where_classes_exclude():
    probs = np.array([[[0.6, 0.7], [0.9, 0.2], [0.3, 0.3]]])
    assert keep_likeliest(probs).tolist() == [[[0, 0.7], [0.9, 0], [0.3, 0]]]
    rules = [Rule(0.5, 0.5, 0)] * 2
    assert make_masks(probs, rules, exclusive=True).tolist() == [[[0, 1], [1, 0], [0, 0]]]
    assert make_masks(probs, rules, exclusive=False).tolist() == [[[1, 1], [1, 0], [0, 0]]]


def test_each_class_has_its_own_rule():
    masks = make_masks(np.stack([MAP, MAP], 2), [Rule(0.5, 0.7, 0), Rule(0.5, 0.5, 9)], False)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[:, :, 0], LARGE)
    assert not masks[:, :, 1].any()


@pytest.mark.parametrize("n_rules", [1, 3])
def test_rules_and_classes_must_match(n_rules):
    with pytest.raises(ValueError, match="zip"):
        make_masks(np.stack([MAP, MAP], 2), [Rule(0.5, 0.5, 0)] * n_rules, False)


def test_masks_become_a_label_table_and_back():
    masks = np.stack([LARGE, np.zeros_like(SMALL), SMALL], 2).astype(np.uint8)
    labels = masks_to_labels([("b_1.png", masks), ("a.png", np.zeros_like(masks))])
    assert labels.to_numpy().tolist()[:4] == [
        ["b_1.png", 1, "1 2 6 1", True],
        ["b_1.png", 2, "", False],
        ["b_1.png", 3, "10 1 13 1", True],
        ["a.png", 1, "", False],
    ]
    np.testing.assert_array_equal(draw_masks(labels, "b_1.png", (3, 5), 3), masks)
    for runs in labels["EncodedPixels"]:
        assert re.fullmatch(r"(\d+ \d+( \d+ \d+)*)?", runs)
