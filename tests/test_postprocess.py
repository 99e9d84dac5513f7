"""Thresholds, peaks and minimum areas, on maps drawn by hand."""

import json
import re

import numpy as np
import pytest

from defectmill.labels import draw_masks
from defectmill.postprocess import (
    Rule,
    choose_rules,
    keep_likeliest,
    make_masks,
    masks_to_labels,
    read_rules,
    select_blobs,
    write_rules,
)
from fake_competition import make_card

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


def choose(*pairs, exclusive=False, thresholds=(0.5, 0.7), areas=(0, 3)):
    return choose_rules(pairs, thresholds, areas, n_classes=1, exclusive=exclusive)


def test_rule_that_keeps_the_true_blob_alone_is_chosen():
    rules, tried = choose((MAP[:, :, None], LARGE[:, :, None].astype(np.uint8)))
    # 0.7 as threshold loses two of three pixels; area 3 or peak 0.7 drops the false blob.
    assert rules == [Rule(0.5, 0.5, 3)]
    assert list(tried) == [
        "ClassId", "threshold", "peak", "minimum_area", "mean_dice", "pooled_dice"
    ]  # fmt: skip
    assert tried.to_numpy().tolist() == [
        [1, 0.5, 0.5, 0, 2 * 3 / 8, 2 * 3 / 8],
        [1, 0.5, 0.5, 3, 1, 1],
        [1, 0.5, 0.7, 0, 1, 1],
        [1, 0.5, 0.7, 3, 1, 1],
        [1, 0.7, 0.7, 0, 0.5, 0.5],
        [1, 0.7, 0.7, 3, 0, 0],
    ]


def test_tried_numbers_are_those_of_the_masks_made():
    rng = np.random.default_rng(5)
    pairs = [(rng.random((7, 11, 1)), (rng.random((7, 11, 1)) < 0.4).astype(np.uint8))
             for _ in range(3)]  # fmt: skip
    _, tried = choose(*pairs)
    for row in tried.itertuples():
        rule = Rule(row.threshold, row.peak, row.minimum_area)
        dice = []
        for probs, truth in pairs:
            mask = make_masks(probs, [rule], exclusive=False)
            dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        assert row.mean_dice == pytest.approx(np.mean(dice))


def test_class_that_is_never_there_predicts_nothing():
    truth = np.zeros((3, 5, 1), np.uint8)
    rules, _ = choose((MAP[:, :, None], truth), (MAP[:, :, None], truth))
    assert rules == [Rule(1.0, 1.0, 0)]


def test_class_that_is_never_hit_predicts_nothing():
    truth = np.zeros((3, 5, 1), np.uint8)
    truth[1, 2] = 1
    assert choose((MAP[:, :, None], truth))[0] == [Rule(1.0, 1.0, 0)]


def test_exclusive_classes_are_tuned_on_exclusive_maps():
    probs = np.stack([MAP, MAP + (MAP > 0.5) * 0.1], 2)
    truth = np.zeros((3, 5, 2), np.uint8)
    truth[LARGE, 0] = 1
    free, _ = choose_rules([(probs, truth)], [0.5], [0], 2, exclusive=False)
    alone, _ = choose_rules([(probs, truth)], [0.5], [0], 2, exclusive=True)
    assert free[0] == Rule(0.5, 0.5, 0)
    assert alone[0] == Rule(1.0, 1.0, 0)


def test_no_held_out_picture_is_refused():
    with pytest.raises(ValueError, match="no held-out pictures"):
        choose()


def test_rules_round_trip_by_class_id(tmp_path):
    rules = [Rule(0.1 * c, 0.5, 10 * c) for c in range(1, 5)]
    path = tmp_path / "thresholds.json"
    write_rules(rules, make_card(n_classes=4), path)
    saved = json.loads(path.read_text())
    assert saved["2"] == {"name": "bar 2", "threshold": 0.2, "peak": 0.5, "minimum_area": 20}
    path.write_text(json.dumps(dict(reversed(saved.items()))))
    assert read_rules(path) == rules


def test_more_than_nine_classes_keep_their_order(tmp_path):
    chosen = {c: {"threshold": c / 20, "peak": 1.0, "minimum_area": c} for c in (10, 9, 1)}
    (tmp_path / "t.json").write_text(json.dumps(chosen))
    assert [rule.minimum_area for rule in read_rules(tmp_path / "t.json")] == [1, 9, 10]


def test_rules_for_another_number_of_classes_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_rules([Rule(0.5, 0.5, 0)], make_card(n_classes=2), tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


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
