"""The panel, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from defectmill.panel import ALL, class_table, pick, score_panel
from defectmill.tally import tally_pairs

NAMES = ["dot", "bar"]


def random_pairs(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (f"{k}", *((rng.random((6 + k, 9, 2)) < share).astype(np.uint8) for share in (0.3, 0.4)))
        for k in range(n)
    ]


def one_class(*pairs):
    """Tally of (truth, prediction) rows of 0 and 1."""
    return tally_pairs(
        (str(n), np.array(t, np.uint8)[None, :, None], np.array(p, np.uint8)[None, :, None])
        for n, (t, p) in enumerate(pairs)
    )


def test_pooled_measures_are_scikit_learns():
    pairs = random_pairs()
    panel = score_panel(tally_pairs(pairs), np.arange(5), NAMES)
    for c, name in enumerate(NAMES):
        truth, guess = (np.concatenate([p[k][..., c].ravel() for p in pairs]) for k in (1, 2))
        for measure, reference in (
            ("pooled_dice", f1_score), ("pooled_iou", jaccard_score),
            ("precision", precision_score), ("recall", recall_score),
        ):  # fmt: skip
            assert pick(panel, measure, name)["value"] == pytest.approx(reference(truth, guess))


def test_image_measures_are_scikit_learns():
    pairs = random_pairs()
    panel = score_panel(tally_pairs(pairs), np.arange(5), NAMES)
    for c, name in enumerate(NAMES):
        each = [(t[..., c].ravel(), p[..., c].ravel()) for _, t, p in pairs]
        for measure, reference in (("mean_dice", f1_score), ("mean_iou", jaccard_score)):
            mean = np.mean([reference(t, p) for t, p in each])
            assert pick(panel, measure, name)["value"] == pytest.approx(mean)


def test_by_hand():
    tally = one_class(
        ([1, 1, 0, 0], [1, 0, 0, 0]),  # Dice 2/3
        ([0, 0, 0, 0], [0, 1, 0, 0]),  # false alarm
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 1, 1, 1], [1, 0, 0, 0]),  # marked, and missed
    )
    panel = score_panel(tally, np.arange(4), ["dot"])
    values = panel[panel["class"] == "dot"].set_index("measure")["value"]
    assert values["mean_dice"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert values["pooled_dice"] == pytest.approx(2 / (5 + 3))
    assert values["image_recall"] == 1 / 2
    assert values["false_alarm_rate"] == 1 / 2
    assert values["precision"] == pytest.approx(1 / 3)
    assert values["recall"] == pytest.approx(1 / 5)
    assert pick(panel, "floor")["value"] == 2 / 4
    assert pick(panel, "gain")["value"] == pytest.approx(5 / 12 - 1 / 2)


def test_boundary_f1_by_hand():
    truth, guess = np.zeros((2, 9, 30, 1), np.uint8)
    truth[2:6, 2:6] = truth[2:6, 12:16] = 1
    guess[2:6, 3:7] = guess[2:6, 22:26] = guess[2:6, 28] = 1
    panel = score_panel(tally_pairs([("a", truth, guess)]), [0], ["dot"])
    precision, recall = 12 / (12 + 12 + 4), 12 / 24
    wanted = 2 * precision * recall / (precision + recall)
    assert pick(panel, "boundary_f1")["value"] == pytest.approx(wanted)


def test_the_answer_that_says_nothing_scores_the_floor_and_no_dice():
    pairs = [(i, t, np.zeros_like(p)) for i, t, p in random_pairs()]
    panel = score_panel(tally_pairs(pairs), np.arange(5), NAMES)
    assert pick(panel, "score")["value"] == pick(panel, "floor")["value"]
    for measure in ("pooled_dice", "recall", "image_recall", "boundary_f1"):
        assert pick(panel, measure)["value"] == 0
    assert np.isnan(pick(panel, "precision")["value"])


def test_a_class_that_is_nowhere_is_not_measured_and_not_averaged():
    truth, guess = np.zeros((2, 3, 5, 2), np.uint8)
    truth[0], guess[0, :3] = [1, 0], [1, 0]
    panel = score_panel(tally_pairs([("a", truth, guess), ("b", truth, guess)]), [0, 1], NAMES)
    assert np.isnan(pick(panel, "pooled_dice", "bar")["value"])
    assert pick(panel, "pooled_dice")["value"] == pick(panel, "pooled_dice", "dot")["value"] == 0.75


def test_the_interval_is_that_of_the_groups_not_of_the_images():
    hit, miss = ([1, 1, 0], [1, 1, 0]), ([1, 1, 0], [0, 0, 1])
    tally = one_class(*[hit] * 20, *[miss] * 20)
    of_images = pick(score_panel(tally, np.arange(40), ["dot"]), "score")
    of_two = pick(score_panel(tally, np.repeat([7, 3], 20), ["dot"]), "score")
    # Binomial: 0.5 +- 1.96 * sqrt(0.25 / 40).
    assert (of_images["low"], of_images["high"]) == pytest.approx((0.345, 0.655), abs=0.03)
    assert (of_two["value"], of_two["low"], of_two["high"]) == (0.5, 0.0, 1.0)


def test_groups_of_other_sizes_weigh_by_their_images():
    hit, miss = ([1, 0], [1, 0]), ([1, 0], [0, 1])
    tally = one_class(hit, hit, hit, miss)
    drawn = score_panel(tally, [0, 0, 0, 1], ["dot"])
    # A draw takes either group twice, or both: 3 of 4 right.
    assert pick(drawn, "score").tolist() == [0.75, 0.0, 1.0]


def test_one_group_has_no_interval():
    row = pick(score_panel(one_class(([1, 0], [1, 1])), ["only"], ["dot"]), "score")
    assert row["value"] == pytest.approx(2 / 3)
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])


def test_all_classes_are_means_over_the_classes():
    truth, guess = np.zeros((2, 2, 3, 4, 3), np.uint8)
    truth[0, 0, :, 0] = guess[0, 0, :, 0] = 1  # class 0 in the first picture, found
    guess[:, 1, 0, 1] = 1  # class 1 nowhere, predicted in both
    truth[0, 2, :2, 2] = guess[0, 2, :1, 2] = 1  # class 2: half of it
    pairs = [("a", truth[0], guess[0]), ("b", truth[1], guess[1])]
    panel = score_panel(tally_pairs(pairs), [0, 1], ["dot", "bar", "oil"])
    value = {m: pick(panel, m)["value"] for m in panel["measure"].unique()}
    assert value["false_alarm_rate"] == pytest.approx((0 + 1 + 0) / 3)
    # Class 1 is in no truth: it counts in the score, not in the means of the classes there are.
    assert value["pooled_dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert value["precision"] == 1
    assert value["mean_iou"] == pytest.approx((1 + 1 + 0 + 0 + 0.5 + 1) / 6)
    assert value["score"] == pytest.approx((1 + 1 + 0 + 0 + 2 / 3 + 1) / 6)
    nothing = score_panel(tally_pairs([("a", truth[1], truth[1])] * 2), [0, 1], list("abc"))
    assert np.isnan(pick(nothing, "boundary_f1", "a")["value"])
    assert np.isnan(pick(nothing, "pooled_dice")["value"])


def test_soft_pixel_accuracy_stands_beside_background_alone():
    tally = one_class(([1, 0], [1, 0]), ([0, 0], [0, 0]))
    soft = np.array([[3.0, 1.0, 4.0], [6.0, 6.0, 6.0]])
    panel = score_panel(tally, [0, 1], ["dot"], soft)
    assert pick(panel, "soft_pixel_accuracy").tolist() == [0.9, 0.75, 1.0]
    assert pick(panel, "soft_pixel_accuracy_of_background")["value"] == 0.7


def test_the_same_seed_gives_the_same_intervals():
    tally = tally_pairs(random_pairs())
    first, second, other = (score_panel(tally, np.arange(5), NAMES, seed=s) for s in (1, 1, 2))
    assert first.equals(second)
    assert not first["low"].equals(other["low"])


def test_class_table_has_a_row_a_class_in_their_order_and_all_of_them_last():
    panel = score_panel(tally_pairs(random_pairs()), np.arange(5), NAMES)
    table = class_table(panel, ("recall", "score"))
    assert table.index.tolist() == [*NAMES, ALL]
    assert table.columns.tolist() == ["recall", "score"]
    assert table.loc["bar", "recall"] == pick(panel, "recall", "bar")["value"]
    assert table.loc[ALL, "score"] == pick(panel, "score")["value"]
    assert np.isnan(table.loc["bar", "score"])


def test_nested_rows_of_one_group_are_not_measured():
    tally = tally_pairs(random_pairs())
    panel = score_panel(tally, np.zeros(5), NAMES, nested=tally.counts[..., :3])
    assert panel.loc[panel["measure"].str.startswith("nested"), "value"].isna().all()


def test_nested_rows_are_score_and_dice_of_the_counts():
    tally = tally_pairs(random_pairs())
    panel = score_panel(tally, np.arange(5), NAMES, nested=tally.counts[..., :3])
    assert pick(panel, "nested_score").tolist() == pick(panel, "score").tolist()
    for name in NAMES:
        of_class = pick(panel, "nested_pooled_dice", name)
        assert of_class["value"] == pick(panel, "pooled_dice", name)["value"]
