import json
from dataclasses import replace

import numpy as np
import pytest

from defectmill.config import ConfigError
from defectmill.files import DefectmillError
from defectmill.labels import make_label_table
from defectmill.prediction.postprocess import ClassThreshold, make_masks
from defectmill.prediction.thresholds import (
    choose_thresholds,
    fit_calibration,
    nested_counts,
    read_thresholds,
    search_grid,
    typical_areas,
    write_thresholds,
)
from defectmill.settings import PredictSettings
from fake_competition import make_info
from fake_maps import LARGE, MAP, SMALL

NOTHING = ClassThreshold(1.0, 1.0, 0)
FIXED = {"expected_dice": 0.0, "calibration": []}
WHOLE = {
    "threshold": 0.5,
    "high_threshold": 0.6,
    "minimum_area": 3,
    "fill_holes": False,
    "weight": 1.0,
    **FIXED,
}
ODD = [
    *(("threshold", "x"), ("minimum_area", 1.5), ("weight", None), ("high_threshold", float("nan"))),
    *(("expected_dice", 0.3), ("expected_dice", float("inf")), ("calibration", [0.1, float("nan")])),
]


def search(pairs, areas, thresholds=(0.5,), shares=(0, 0.3), exclusive=False, expected_dice=()):
    settings = PredictSettings(thresholds=thresholds, minimum_areas=shares, expected_dice=expected_dice)
    return search_grid(pairs, settings, areas, exclusive)


def choose(searched):
    """Every image is a group of its own."""
    return choose_thresholds(searched, range(len(searched.counts)))


def pick(*pairs, thresholds=(0.5, 0.7)):
    return choose(search(pairs, [20.0], thresholds, (0, 0.15)))


def test_threshold_that_keeps_the_true_component_alone_is_chosen():
    thresholds, tried = pick(*[(MAP[:, :, None], LARGE[:, :, None].astype(np.uint8))] * 30)
    # 0.7 as threshold loses two of three pixels; area 3 or high threshold 0.7 drops the false component.
    assert thresholds == [ClassThreshold(0.5, 0.5, 3)]
    point = ["ClassId", "threshold", "high_threshold", "minimum_area", "area_share"]
    judged = [*point, "imagewise_dice", "micro_dice", "gain"]
    assert list(tried) == [*point[:4], "fill_holes", "expected_dice", "calibrated", *judged[4:]]
    assert tried["calibrated"].tolist() == tried["threshold"].tolist()
    assert tried[judged].to_numpy().tolist() == [
        [1, 0.5, 0.5, 0, 0, 2 * 3 / 8, 2 * 3 / 8, 2 * 3 / 8 + 2 * 3 / 8],
        [1, 0.5, 0.5, 3, 0.15, 1, 1, 1 + 1],
        [1, 0.5, 0.7, 0, 0, 1, 1, 1 + 1],
        [1, 0.5, 0.7, 3, 0.15, 1, 1, 1 + 1],
        [1, 0.7, 0.7, 0, 0, 0.5, 0.5, 0.5 + 0.5],
        [1, 0.7, 0.7, 3, 0.15, 0, 0, 0 + 0],
    ]


def test_tried_numbers_are_those_of_the_masks_made():
    rng = np.random.default_rng(5)
    drawn = [(rng.random((7, 11, 1)), rng.random((7, 11, 1)) < 0.4) for _ in range(3)]
    pairs = [(probs, truth.astype(np.uint8)) for probs, truth in drawn]
    _, tried = pick(*pairs)
    for row in tried.itertuples():
        threshold = ClassThreshold(row.threshold, row.high_threshold, row.minimum_area)
        dice = []
        for probs, truth in pairs:
            mask = make_masks(probs, [threshold], exclusive=False)
            dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        assert row.imagewise_dice == pytest.approx(np.mean(dice))


def test_a_best_pixel_reaches_its_threshold_where_it_is_equal():
    probs, truth = np.zeros((4, 6, 1)), np.zeros((4, 6, 1), np.uint8)
    probs[1, 2], truth[1, 2] = 0.7, 1
    _, tried = pick((probs, truth))
    assert tried["imagewise_dice"][tried["high_threshold"] == 0.7].tolist() == [1, 0, 0, 0]
    assert tried["threshold"][tried["imagewise_dice"] == 1].tolist() == [0.5, 0.5]
    assert make_masks(probs, [ClassThreshold(0.5, 0.7, 0)], exclusive=False).sum() == 1


def test_class_that_is_never_there_predicts_nothing():
    truth = np.zeros((3, 5, 1), np.uint8)
    searched = search([(MAP[:, :, None], truth)] * 10, [20.0], shares=(0,))
    assert choose(searched)[0] == [NOTHING]


def test_class_that_ten_images_miss_predicts_nothing_and_nine_do_not_decide_that():
    truth = np.zeros((3, 5, 1), np.uint8)
    truth[1, 2] = 1
    assert pick(*[(MAP[:, :, None], truth)] * 10)[0] == [NOTHING]
    # Without evidence it is the threshold of a half, and no minimum area.
    assert pick(*[(MAP[:, :, None], truth)] * 9, thresholds=(0.3, 0.5, 0.7))[0] == [
        ClassThreshold(0.5, 0.5, 0)
    ]


def test_exclusive_classes_are_tuned_on_exclusive_maps():
    probs = np.stack([MAP, MAP + (MAP > 0.5) * 0.1], 2)
    truth = np.zeros((3, 5, 2), np.uint8)
    truth[LARGE, 0] = 1
    free, alone = (
        choose(search([(probs, truth)] * 10, [3, 3], shares=[0], exclusive=exclusive))[0]
        for exclusive in (False, True)
    )
    assert free[0] == ClassThreshold(0.5, 0.5, 0)
    assert alone[0] == NOTHING


def test_no_validation_image_is_refused():
    with pytest.raises(DefectmillError, match="no validation images"):
        pick()


def test_thresholds_round_trip_by_class_id(tmp_path):
    thresholds = [ClassThreshold(0.1 * c, 0.5, 10 * c) for c in range(1, 5)]
    path = tmp_path / "thresholds.json"
    write_thresholds(thresholds, make_info(n_classes=4), path)
    saved = json.loads(path.read_text())
    rest = {"high_threshold": 0.5, "minimum_area": 20, "fill_holes": False, "weight": 1.0, **FIXED}
    assert saved["2"] == {"name": "bar 2", "threshold": 0.2, **rest}
    path.write_text(json.dumps(dict(reversed(saved.items()))))
    assert read_thresholds(path) == thresholds


def test_more_than_nine_classes_keep_their_order(tmp_path):
    rest = {"high_threshold": 1.0, "fill_holes": True, "weight": 1.0, **FIXED}
    chosen = {c: {"threshold": c / 20, "minimum_area": c, **rest} for c in (10, 9, 1)}
    (tmp_path / "t.json").write_text(json.dumps(chosen))
    assert [threshold.minimum_area for threshold in read_thresholds(tmp_path / "t.json")] == [1, 9, 10]


def test_thresholds_of_an_older_version_are_refused_with_the_target_that_makes_new_ones(tmp_path):
    path = tmp_path / "steel" / "thresholds.json"
    path.parent.mkdir()
    path.write_text('{"1": {"name": "dot", "threshold": 0.5, "peak": 0.9, "minimum_area": 3}}')
    with pytest.raises(ConfigError, match=r"thresholds\.json: .*`make predict EXPERIMENT=steel`"):
        read_thresholds(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", "[" * 5000, '{"a": {}}', '{"1": []}', '{"1": 3}'),
        *(json.dumps({"1": WHOLE | {key: value}}) for key, value in ODD),
    ],
)
def test_damaged_thresholds_are_refused_with_the_target_that_makes_new_ones(tmp_path, text):
    path = tmp_path / "thresholds.json"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"thresholds\.json: .*`make predict EXPERIMENT=.*` writes it anew"
    ) as e:
        read_thresholds(path)
    assert "\n" not in str(e.value)


def test_thresholds_for_another_number_of_classes_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_thresholds([ClassThreshold(0.5, 0.5, 0)], make_info(n_classes=2), tmp_path / "t.json")
    assert not list(tmp_path.iterdir())


def test_a_class_of_few_images_leans_on_the_others():
    """Thirty images of nine classes say that small components are false, one of a tenth that not."""
    probs = np.stack([MAP] * 10, 2)
    common, rare = np.zeros((2, 3, 5, 10), np.uint8)
    common[LARGE, :9] = 1
    rare[SMALL, 9] = 1
    is_rare = np.arange(10) == 9
    many, one = (probs * ~is_rare, common), (probs * is_rare, rare)
    thresholds, tried = choose(search([many] * 30 + [one], [10] * 10))
    assert thresholds == [ClassThreshold(0.5, 0.5, 3)] * 10
    alone = tried[tried["ClassId"] == 10].set_index("area_share")["micro_dice"]
    assert alone[0] > alone[0.3]
    # With as many images of its own it goes its own way.
    thresholds, _ = choose(search([many, one] * 30, [10] * 10))
    assert [threshold.minimum_area for threshold in thresholds] == [3] * 9 + [0]


def test_false_alarms_weigh_as_much_as_the_defects_of_their_class():
    """A defect found in one image does not pay for two alarms, however many images are clean."""
    seen, clean = np.zeros((2, 3, 5, 1), np.uint8)
    seen[LARGE] = 1
    nothing = np.zeros((3, 5, 1))
    pairs = [(MAP[:, :, None], seen)] * 4 + [(MAP[:, :, None], clean)] * 8 + [(nothing, clean)] * 500
    thresholds, tried = choose(search(pairs, [3], shares=[0]))
    wanted = 2 * seen.sum() / (seen.sum() + (MAP > 0.5).sum()) - 2 + tried["micro_dice"].iloc[0]
    assert tried["gain"].iloc[0] == pytest.approx(wanted)
    assert thresholds == [NOTHING]


def test_typical_area_is_the_median_mask_of_the_class():
    runs = [(1, "1 4"), (1, "1 2 5 4"), (1, "9 40"), (2, ""), (3, "2 5")]
    labels = make_label_table(("a", class_id, rle) for class_id, rle in runs)
    assert typical_areas(labels, 4) == [6, 0, 5, 0]


def test_typical_areas_of_a_set_without_a_defect_are_0():
    assert typical_areas(make_label_table([("a", 1, ""), ("a", 2, "")]), 2) == [0, 0]
    assert typical_areas(make_label_table([]), 1) == [0]


def search_two_classes(*truths):
    """Grid search on one map that is the same for both classes; masks of class 1 and class 2 given."""
    probs = np.stack([MAP, MAP], 2)
    return search([(probs, np.stack(t, 2).astype(np.uint8)) for t in truths], [10, 10])


def test_a_rare_class_full_of_false_alarms_does_not_speak_for_the_others():
    """Class 1 is found in twenty images; class 2, absent or there once, alarms in sixty."""
    seen, clean = np.zeros((2, 3, 5, 2), np.uint8)
    seen[LARGE, 0] = 1
    first, second = (MAP[..., None] * np.eye(2)[c] for c in (0, 1))
    pairs = [(first, seen)] * 20 + [(second, clean)] * 60
    once = clean.copy()
    once[LARGE, 1] = 1
    for more in ([], [(second, once)]):
        thresholds, tried = choose(search(pairs + more, [10, 10]))
        assert thresholds == [ClassThreshold(0.5, 0.5, 3), NOTHING]
        if not more:
            assert tried["gain"][tried["ClassId"] == 2].tolist() == [-60, -60]


@pytest.mark.parametrize(("n", "high"), [(1, 0.5), (20, 0.9)])
def test_an_alarm_of_an_absent_class_counts_the_more_the_more_images_could_have_had_one(n, high):
    probs, truth = np.zeros((3, 5, 2)), np.zeros((3, 5, 2), np.uint8)
    probs[LARGE, 0] = truth[LARGE, 0] = 1
    alarm = probs.copy()
    alarm[0, 4, 1] = 0.6
    searched = search([(alarm, truth)] + [(probs, truth)] * (n - 1), [3, 3], (0.5, 0.9), [0])
    assert choose(searched)[0] == [ClassThreshold(0.5, 0.5, 0), ClassThreshold(0.5, high, 0)]


def test_an_absent_class_without_alarms_follows_the_others():
    seen = np.zeros((3, 5, 2), np.uint8)
    seen[LARGE, 0] = 1
    faint = np.stack([MAP, MAP / 10], 2)
    thresholds, _ = choose(search([(faint, seen)] * 30, [10, 10]))
    assert thresholds == [ClassThreshold(0.5, 0.5, 3)] * 2


def test_nested_counts_come_from_thresholds_of_other_groups():
    # In group 1 the large component is the defect: area 3. In group 2 the small one: area 0.
    pairs = [(MAP[:, :, None], truth[:, :, None]) for truth in [LARGE] * 30 + [SMALL] * 30]
    counts = nested_counts(search(pairs, [10]), [1] * 30 + [2] * 30)
    assert counts[:, 0].tolist() == [[3, 3, 5]] * 30 + [[0, 2, 3]] * 30


def test_nested_counts_of_a_class_that_is_never_predicted_are_empty():
    pair = np.stack([MAP, MAP], 2), np.stack([LARGE, LARGE & False], 2)
    searched = search([pair] * 16, [10, 10], shares=(0,))
    assert nested_counts(searched, range(16))[:, 1].tolist() == [[0, 0, 0]] * 16


def test_nested_counts_of_equal_groups_are_those_of_the_chosen_threshold():
    searched = search_two_classes(*[(LARGE, SMALL)] * 4)
    thresholds, _ = choose(searched)
    counts = nested_counts(searched, [0, 1, 2, 3])
    for c, threshold in enumerate(thresholds):
        place = searched.class_thresholds[c].index(threshold)
        np.testing.assert_array_equal(counts[:, c], searched.counts[:, c, place])


def test_one_group_alone_cannot_choose_thresholds_for_itself():
    counts = nested_counts(search_two_classes((LARGE, SMALL), (LARGE, SMALL)), [4, 4])
    assert counts.tolist() == [[[0, 3, 0], [0, 2, 0]]] * 2


def test_the_objective_is_the_score_the_micro_dice_or_both():
    """The faint part of a defect pays for an alarm in a clean image in micro Dice, not in the score."""
    large, clean = np.zeros((2, 4, 6, 1), np.uint8)
    large[0, :3] = large[3, :2] = 1
    found, alarm = np.where(large, 0.9, 0.0), np.zeros((4, 6, 1))
    found[3, :2] = alarm[0, 0] = 0.4
    searched = search([(found, large), (alarm, clean)] * 30, [5], (0.3, 0.5), [0])
    gains = {}
    for objective in ("both", "score", "dice"):
        settings = PredictSettings(objective=objective)
        chosen, tried = choose(replace(searched, settings=settings))
        gains[objective] = tried["gain"][[0, 2]].tolist()
        assert chosen[0].threshold == (0.5 if objective != "dice" else 0.3)
    # Of one class the prior is its own gain: nothing shrinks. All found with an alarm, or 3 pixels of 5.
    assert gains["score"] == pytest.approx([1 - 1, 6 / 8])
    assert gains["dice"] == pytest.approx([10 / 11, 6 / 8])
    assert gains["both"] == pytest.approx([10 / 11, 12 / 8])


def test_a_demanded_image_recall_is_met_whatever_it_costs():
    seen, clean = np.zeros((2, 4, 6, 1), np.uint8)
    seen[1, :5] = 1
    sure, faint, alarm = np.where(seen, 0.9, 0.0), np.where(seen, 0.4, 0.0), np.full((4, 6, 1), 0.4)
    pairs = [(sure, seen)] * 3 + [(faint, seen)] + [(alarm, clean)] * 20
    thresholds = {}
    for demanded in (0.0, 0.7, 0.75, 0.7525, 0.8, 1.0):  # of four images
        settings = PredictSettings(
            thresholds=(0.3, 0.5), minimum_areas=(0,), image_recall=demanded, expected_dice=()
        )
        chosen, _ = choose(search_grid(pairs, settings, [5], exclusive=False))
        thresholds[demanded] = chosen[0].threshold
    assert thresholds == {0.0: 0.5, 0.7: 0.5, 0.75: 0.5, 0.7525: 0.3, 0.8: 0.3, 1.0: 0.3}


def test_a_demand_that_nothing_meets_takes_what_hits_most():
    missed = np.zeros((4, 6, 1), np.uint8)
    missed[0, 0] = 1
    settings = PredictSettings(thresholds=(0.5,), minimum_areas=(0,), image_recall=1.0, expected_dice=())
    searched = search_grid([(np.zeros((4, 6, 1)), missed)] * 12, settings, [1], exclusive=False)
    assert choose(searched)[0] == [ClassThreshold(0.5, 0.5, 0)]


def test_calibration_undoes_what_made_the_probabilities_too_low():
    """Half of what they should be; twelve groups are trusted by 12 / 17."""
    rng, pairs = np.random.default_rng(3), []
    for _ in range(12):
        right = rng.random((60, 50, 1))
        pairs.append((right / 2, (rng.random(right.shape) < right).astype(np.uint8)))
    (calibrated,) = fit_calibration(pairs, 1, range(12))
    levels = np.linspace(0, 1, 256)
    assert (np.diff(calibrated) >= 0).all()
    for level in (51, 76, 102):
        wanted = (12 * 2 * levels[level] + 5 * levels[level]) / 17
        assert calibrated[level] == pytest.approx(wanted, abs=0.03)
    settings = PredictSettings(thresholds=(0.5,), minimum_areas=(0,), expected_dice=())
    searched = search_grid(pairs[:1], settings, [1], False, (2 * levels[None]).clip(0, 1))
    # Level 64 is the first of at least a quarter, 39 of at least 0.15.
    assert searched.class_thresholds == [[ClassThreshold(63.5 / 255, 63.5 / 255, 0, weight=0.3 / levels[39])]]


def test_a_calibrated_threshold_stays_between_a_hundredth_and_99():
    settings = PredictSettings(thresholds=(0.5,), minimum_areas=(0,), expected_dice=())
    always, never = np.ones(256), np.zeros(256)
    always[0] = 0
    pair = np.zeros((3, 5, 2)), np.zeros((3, 5, 2), np.uint8)
    points = search_grid([pair], settings, [1, 1], False, np.stack([always, never])).class_thresholds
    assert points[0] == [ClassThreshold(0.01, 0.01, 0, weight=0.3 * 255)]
    assert points[1] == [ClassThreshold(0.99, 0.99, 0, weight=0.3)]


def test_the_fewer_groups_a_class_has_the_less_is_calibrated():
    truth = np.zeros((3, 5, 1), np.uint8)
    truth[LARGE] = 1
    pairs, levels = [(MAP[:, :, None] / 4, truth)] * 10, np.linspace(0, 1, 256)
    moved = [np.abs(fit_calibration(pairs, 1, groups) - levels).max() for groups in ([4] * 10, range(10))]
    assert moved[0] == pytest.approx(1 / 6, abs=0.05)
    assert moved[1] == pytest.approx(10 / 15, abs=0.2)
    nobody = fit_calibration([(MAP[:, :, None], np.zeros_like(truth))] * 9, 1, range(9))
    np.testing.assert_allclose(nobody[0], levels)


def test_classes_at_a_pixel_are_compared_by_what_their_probabilities_are_worth():
    """Class 1 is found at a fifth of the probability of class 2, which is wrong there."""
    truth = np.zeros((4, 6, 2), np.uint8)
    truth[1, 2:5, 0] = truth[3, 0, 1] = 1
    probs = truth * [0.15, 0.9]
    probs[1, 2:5, 1] = 0.2
    pairs = [(probs, truth)] * 12
    settings = PredictSettings(thresholds=(0.5,), minimum_areas=(0,))
    calibration = fit_calibration(pairs, 2, range(12))
    searched = search_grid(pairs, settings, [1.0, 1.0], True, calibration)
    chosen, _ = choose_thresholds(searched, range(12))
    np.testing.assert_array_equal(make_masks(probs, chosen, exclusive=True), truth)
    plain = search_grid(pairs, settings, [1.0, 1.0], True)
    assert plain.counts[:, 0, :, 0].sum() == 0


def test_holes_are_filled_in_the_search_as_in_the_masks():
    ring = np.zeros((5, 7, 1))
    ring[1:4, 1:5] = 0.9
    ring[2, 2:4] = 0
    truth = (ring > 0).astype(np.uint8)
    truth[2, 2:4] = 1
    settings = PredictSettings(thresholds=(0.5,), minimum_areas=(0,), fill_holes=True, expected_dice=())
    searched = search_grid([(ring, truth)], settings, [12], exclusive=False)
    assert searched.counts.tolist() == [[[[12, 12, 12]]]]
    chosen, _ = choose(searched)
    np.testing.assert_array_equal(make_masks(ring, chosen, exclusive=False), truth)


def test_images_of_different_sureness_get_thresholds_of_their_own():
    """No one threshold finds the faint crack and leaves the halo of the sure one out."""
    bright, faint = np.zeros((2, 6, 9, 1))
    bright[1:3], bright[3:5], faint[2, :7] = 0.8, 0.2, 0.2
    pairs = [(bright, (bright > 0.5).astype(np.uint8)), (faint, (faint > 0.1).astype(np.uint8))] * 12
    searched = search(pairs, [10], (0.1, 0.5), (0, 0.5), expected_dice=(0.3, 0.7))
    chosen, tried = choose(searched)
    assert (chosen[0].expected_dice, chosen[0].minimum_area, len(chosen[0].calibration)) == (0.3, 0, 256)
    for probs, truth in pairs[:2]:
        np.testing.assert_array_equal(make_masks(probs, chosen, exclusive=False), truth)
    own = tried[tried["expected_dice"] > 0]
    assert own["calibrated"].tolist() == own["expected_dice"].tolist() == [0.3, 0.3, 0.7, 0.7]
    # At 0.7 the faint one, of which the expected Dice is 2 * 1.4 / (7 + 1.4), is left out.
    assert own["imagewise_dice"].tolist() == [1, 1, 0.5, 0.5]
    assert tried["imagewise_dice"][:6].max() == pytest.approx((2 * 18 / 54 + 1) / 2)


def test_thresholds_of_each_image_round_trip(tmp_path):
    levels = tuple(np.linspace(0, 1, 256).round(6).tolist())
    chosen = [ClassThreshold(0.0, 0.0, 7, True, 0.5, 0.3, levels), ClassThreshold(0.5, 0.5, 0)]
    write_thresholds(chosen, make_info(n_classes=2), tmp_path / "t.json")
    assert len((tmp_path / "t.json").read_text().splitlines()) == 4
    assert read_thresholds(tmp_path / "t.json") == chosen


def test_little_evidence_leaves_each_image_its_own_threshold_at_an_expected_dice_of_a_half():
    """Of two images the grid's luck is no choice; of sixty it is."""
    large = np.zeros((3, 5, 1), np.uint8)
    large[LARGE] = 1
    for n, minimum_area in ((2, 0), (60, 3)):
        searched = search([(MAP[:, :, None], large)] * n, [10], (0.5,), (0, 0.3), expected_dice=(0.2, 0.5))
        chosen, _ = choose(searched)
        assert (chosen[0].expected_dice, chosen[0].minimum_area) == (0.5, minimum_area)


def test_ten_exposures_of_one_part_are_one_piece_of_evidence():
    missed = np.zeros((3, 5, 1), np.uint8)
    missed[1, 2] = 1
    pairs = [(MAP[:, :, None], missed)] * 10
    searched = search(pairs, [20.0], shares=(0,))
    assert choose_thresholds(searched, range(10))[0] == [NOTHING]
    assert choose_thresholds(searched, [4] * 10)[0] == [ClassThreshold(0.5, 0.5, 0)]
