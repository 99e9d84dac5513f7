import json

import numpy as np
import pandas as pd
import pytest

from defectmill.postprocess import Rule, make_masks
from defectmill.rules import choose_rules, nested_counts, read_rules, typical_areas, write_rules
from defectmill.trials import try_rules
from fake_competition import make_card

# Blobs above 0.5: 3 pixels (joined by a corner) with peak 0.8, and 2 pixels with peak 0.6.
MAP = np.array([[0.8, 0.0, 0.0, 0.6, 0.6], [0.7, 0.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0, 0.5]])
LARGE = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], bool)
SMALL = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


def choose(*pairs, thresholds=(0.5, 0.7), shares=(0, 0.3)):
    return choose_rules(try_rules(pairs, thresholds, shares, [10.0], exclusive=False))


def test_rule_that_keeps_the_true_blob_alone_is_chosen():
    rules, tried = choose((MAP[:, :, None], LARGE[:, :, None].astype(np.uint8)))
    # 0.7 as threshold loses two of three pixels; area 3 or peak 0.7 drops the false blob.
    assert rules == [Rule(0.5, 0.5, 3)]
    assert list(tried) == [
        "ClassId", "threshold", "peak", "minimum_area", "area_share", "mean_dice", "pooled_dice",
        "gain",
    ]  # fmt: skip
    assert tried.to_numpy().tolist() == [
        [1, 0.5, 0.5, 0, 0, 2 * 3 / 8, 2 * 3 / 8, 2 * 3 / 8 + 2 * 3 / 8],
        [1, 0.5, 0.5, 3, 0.3, 1, 1, 1 + 1],
        [1, 0.5, 0.7, 0, 0, 1, 1, 1 + 1],
        [1, 0.5, 0.7, 3, 0.3, 1, 1, 1 + 1],
        [1, 0.7, 0.7, 0, 0, 0.5, 0.5, 0.5 + 0.5],
        [1, 0.7, 0.7, 3, 0.3, 0, 0, 0 + 0],
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
    free, _ = choose_rules(try_rules([(probs, truth)], [0.5], [0], [3, 3], exclusive=False))
    alone, _ = choose_rules(try_rules([(probs, truth)], [0.5], [0], [3, 3], exclusive=True))
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


def test_a_class_of_few_pictures_leans_on_the_others():
    """Thirty pictures of nine classes say that small blobs are false, one of a tenth that not."""
    probs = np.stack([MAP] * 10, 2)
    common, rare = np.zeros((2, 3, 5, 10), np.uint8)
    common[LARGE, :9] = 1
    rare[SMALL, 9] = 1
    is_rare = np.arange(10) == 9
    many, one = (probs * ~is_rare, common), (probs * is_rare, rare)

    def choose(pairs):
        return choose_rules(try_rules(pairs, [0.5], [0, 0.3], [10] * 10, exclusive=False))

    rules, tried = choose([many] * 30 + [one])
    assert rules == [Rule(0.5, 0.5, 3)] * 10
    alone = tried[tried["ClassId"] == 10].set_index("area_share")["pooled_dice"]
    assert alone[0] > alone[0.3]
    # With as many pictures of its own it goes its own way.
    assert choose([many, one] * 30)[0] == [Rule(0.5, 0.5, 3)] * 9 + [Rule(0.5, 0.5, 0)]


def test_false_alarms_weigh_as_much_as_the_defects_of_their_class():
    """One defect found in one image does not pay for two alarms, however many images are clean."""
    seen, clean = np.zeros((2, 3, 5, 1), np.uint8)
    seen[LARGE] = 1
    nothing = np.zeros((3, 5, 1))
    pairs = [(MAP[:, :, None], seen)] + [(MAP[:, :, None], clean)] * 2 + [(nothing, clean)] * 500
    rules, tried = choose_rules(try_rules(pairs, [0.5], [0], [3], exclusive=False))
    both, pooled = 2 * seen.sum(), tried["pooled_dice"].iloc[0]
    wanted = both / (seen.sum() + (MAP > 0.5).sum()) - 2 + pooled
    assert tried["gain"].iloc[0] == pytest.approx(wanted)
    assert rules == [Rule(1.0, 1.0, 0)]


def test_typical_area_is_the_median_mask_of_the_class():
    labels = pd.DataFrame(
        {"ClassId": [1, 1, 1, 2, 3], "EncodedPixels": ["1 4", "1 2 5 4", "9 40", "", "2 5"]}
    )
    labels["hasMask"] = labels["EncodedPixels"] != ""
    assert typical_areas(labels, 4) == [6, 0, 5, 0]


def try_on(*truths):
    """Trials on one map: its large blob stands for class 1, its small one for class 2."""
    probs = np.stack([MAP, MAP], 2)
    pairs = [(probs, np.stack(t, 2).astype(np.uint8)) for t in truths]
    return try_rules(pairs, [0.5], [0, 0.3], [10, 10], exclusive=False)


def test_a_rare_class_full_of_false_alarms_does_not_speak_for_the_others():
    """Class 1 is found in twenty pictures; class 2, absent or there once, alarms in sixty."""
    seen, clean = np.zeros((2, 3, 5, 2), np.uint8)
    seen[LARGE, 0] = 1
    first, second = (MAP[..., None] * np.eye(2)[c] for c in (0, 1))
    pairs = [(first, seen)] * 20 + [(second, clean)] * 60
    rules, _ = choose_rules(try_rules(pairs, [0.5], [0, 0.3], [10, 10], exclusive=False))
    assert rules == [Rule(0.5, 0.5, 3), Rule(1.0, 1.0, 0)]
    once = clean.copy()
    once[LARGE, 1] = 1
    rules, _ = choose_rules(
        try_rules([*pairs, (second, once)], [0.5], [0, 0.3], [10, 10], exclusive=False)
    )
    assert rules == [Rule(0.5, 0.5, 3), Rule(1.0, 1.0, 0)]


def test_an_absent_class_without_alarms_follows_the_others():
    seen = np.zeros((3, 5, 2), np.uint8)
    seen[LARGE, 0] = 1
    faint = np.stack([MAP, MAP / 10], 2)
    rules, _ = choose_rules(try_rules([(faint, seen)] * 3, [0.5], [0, 0.3], [10, 10], False))
    assert rules == [Rule(0.5, 0.5, 3)] * 2


def test_nested_counts_come_from_rules_of_other_groups():
    # In group 1 the large blob is the defect: area 3. In group 2 the small one: area 0.
    pairs = [(MAP[:, :, None], truth[:, :, None]) for truth in [LARGE] * 3 + [SMALL] * 3]
    trials = try_rules(pairs, [0.5], [0, 0.3], [10], exclusive=False)
    counts = nested_counts(trials, [1, 1, 1, 2, 2, 2])
    assert counts[:, 0].tolist() == [[3, 3, 5]] * 3 + [[0, 2, 3]] * 3


def test_nested_counts_of_a_rule_that_says_nothing_are_empty():
    trials = try_on(*[(LARGE, LARGE & False)] * 4)
    assert nested_counts(trials, [1, 2, 3, 4])[:, 1].tolist() == [[0, 0, 0]] * 4


def test_nested_counts_of_equal_groups_are_those_of_the_chosen_rule():
    trials = try_on(*[(LARGE, SMALL)] * 4)
    rules, _ = choose_rules(trials)
    counts = nested_counts(trials, [0, 1, 2, 3])
    for c, rule in enumerate(rules):
        place = trials.rules[c].index(rule)
        np.testing.assert_array_equal(counts[:, c], trials.counts[:, c, place])


def test_one_group_alone_cannot_choose_rules_for_itself():
    counts = nested_counts(try_on((LARGE, SMALL), (LARGE, SMALL)), [4, 4])
    assert counts.tolist() == [[[0, 3, 0], [0, 2, 0]]] * 2
