"""Metrics, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from defectmill.dataset_info import ALL_CLASSES
from defectmill.evaluation import metrics
from defectmill.evaluation.counts import count_masks
from defectmill.evaluation.metrics import METRICS, class_table, compute_metrics, pick

NAMES = ["dot", "bar"]


def random_pairs(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (f"{k}", *((rng.random((6 + k, 9, 2)) < share).astype(np.uint8) for share in (0.3, 0.4)))
        for k in range(n)
    ]


def one_class(*pairs):
    """Counts of (truth, prediction) rows of 0 and 1."""
    return count_masks(
        (str(n), np.array(t, np.uint8)[None, :, None], np.array(p, np.uint8)[None, :, None])
        for n, (t, p) in enumerate(pairs)
    )


def test_micro_metrics_are_scikit_learns():
    pairs = random_pairs()
    table = compute_metrics(count_masks(pairs), np.arange(5), NAMES)
    for c, name in enumerate(NAMES):
        truth, guess = (np.concatenate([p[k][..., c].ravel() for p in pairs]) for k in (1, 2))
        references = {"micro_dice": f1_score, "micro_iou": jaccard_score}
        references |= {"precision": precision_score, "recall": recall_score}
        for metric, reference in references.items():
            assert pick(table, metric, name)["value"] == pytest.approx(reference(truth, guess))


def test_imagewise_metrics_are_scikit_learns():
    pairs = random_pairs()
    table = compute_metrics(count_masks(pairs), np.arange(5), NAMES)
    for c, name in enumerate(NAMES):
        each = [(t[..., c].ravel(), p[..., c].ravel()) for _, t, p in pairs]
        for metric, reference in (("imagewise_dice", f1_score), ("imagewise_iou", jaccard_score)):
            mean = np.mean([reference(t, p) for t, p in each])
            assert pick(table, metric, name)["value"] == pytest.approx(mean)


def test_by_hand():
    counts = one_class(
        ([1, 1, 0, 0], [1, 0, 0, 0]),  # Dice 2/3
        ([0, 0, 0, 0], [0, 1, 0, 0]),  # false alarm
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 1, 1, 1], [1, 0, 0, 0]),  # marked, and missed
    )
    table = compute_metrics(counts, np.arange(4), ["dot"])
    values = table[table["class"] == "dot"].set_index("metric")["value"]
    assert values["imagewise_dice"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert values["micro_dice"] == pytest.approx(2 / (5 + 3))
    assert values["image_recall"] == 1 / 2
    assert values["false_alarm_rate"] == 1 / 2
    assert values["precision"] == pytest.approx(1 / 3)
    assert values["recall"] == pytest.approx(1 / 5)
    assert pick(table, "floor")["value"] == 2 / 4
    assert pick(table, "gain")["value"] == pytest.approx(5 / 12 - 1 / 2)


def test_boundary_f1_by_hand():
    truth, guess = np.zeros((2, 9, 30, 1), np.uint8)
    truth[2:6, 2:6] = truth[2:6, 12:16] = 1
    guess[2:6, 3:7] = guess[2:6, 22:26] = guess[2:6, 28] = 1
    table = compute_metrics(count_masks([("a", truth, guess)]), [0], ["dot"])
    precision, recall = 12 / (12 + 12 + 4), 12 / 24
    wanted = 2 * precision * recall / (precision + recall)
    assert pick(table, "boundary_f1")["value"] == pytest.approx(wanted)


def test_cldice_by_hand_asks_for_the_line_and_not_for_the_width():
    truth, guess = np.zeros((2, 9, 40, 1), np.uint8)
    truth[4, 5:35] = 1
    guess[3:6, 5:25] = 1  # three times as wide, and twenty of thirty pixels long
    table = compute_metrics(count_masks([("a", truth, guess)]), [0], ["crack"])
    assert pick(table, "micro_dice")["value"] == pytest.approx(2 * 20 / (30 + 60))
    found = 18 / 28  # a skeleton ends a pixel before its mask
    assert pick(table, "cldice")["value"] == pytest.approx(2 * 1 * found / (1 + found))
    shifted = np.roll(truth, 1, axis=0)
    table = compute_metrics(count_masks([("a", truth, shifted)]), [0], ["crack"])
    assert pick(table, "cldice")["value"] == 0


def test_the_empty_submission_scores_the_floor_and_no_dice():
    pairs = [(i, t, np.zeros_like(p)) for i, t, p in random_pairs()]
    table = compute_metrics(count_masks(pairs), np.arange(5), NAMES)
    assert pick(table, "score")["value"] == pick(table, "floor")["value"]
    for metric in ("micro_dice", "recall", "image_recall", "boundary_f1", "cldice"):
        assert pick(table, metric)["value"] == 0
    assert np.isnan(pick(table, "precision")["value"])


def test_a_class_that_is_nowhere_is_not_measured_and_not_averaged():
    truth, guess = np.zeros((2, 3, 5, 2), np.uint8)
    truth[0], guess[0, :3] = [1, 0], [1, 0]
    table = compute_metrics(count_masks([("a", truth, guess), ("b", truth, guess)]), [0, 1], NAMES)
    assert np.isnan(pick(table, "micro_dice", "bar")["value"])
    assert pick(table, "micro_dice")["value"] == pick(table, "micro_dice", "dot")["value"] == 0.75


def test_the_interval_is_that_of_the_groups_not_of_the_images():
    hit, miss = ([1, 1, 0], [1, 1, 0]), ([1, 1, 0], [0, 0, 1])
    counts = one_class(*[hit] * 20, *[miss] * 20)
    of_images = pick(compute_metrics(counts, np.arange(40), ["dot"]), "score")
    of_two = pick(compute_metrics(counts, np.repeat([7, 3], 20), ["dot"]), "score")
    # Binomial: 0.5 +- 1.96 * sqrt(0.25 / 40).
    assert (of_images["low"], of_images["high"]) == pytest.approx((0.345, 0.655), abs=0.03)
    assert (of_two["value"], of_two["low"], of_two["high"]) == (0.5, 0.0, 1.0)


def test_groups_of_other_sizes_weigh_by_their_images():
    hit, miss = ([1, 0], [1, 0]), ([1, 0], [0, 1])
    counts = one_class(hit, hit, hit, miss)
    drawn = compute_metrics(counts, [0, 0, 0, 1], ["dot"])
    # A draw takes either group twice, or both: 3 of 4 right.
    assert pick(drawn, "score").tolist() == [0.75, 0.0, 1.0]


def test_one_group_has_no_interval():
    row = pick(compute_metrics(one_class(([1, 0], [1, 1])), ["only"], ["dot"]), "score")
    assert row["value"] == pytest.approx(2 / 3)
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])


def test_all_classes_are_means_over_the_classes():
    truth, guess = np.zeros((2, 2, 3, 4, 3), np.uint8)
    truth[0, 0, :, 0] = guess[0, 0, :, 0] = 1  # class 0 in the first image, found
    guess[:, 1, 0, 1] = 1  # class 1 nowhere, predicted in both
    truth[0, 2, :2, 2] = guess[0, 2, :1, 2] = 1  # class 2: half of it
    pairs = [("a", truth[0], guess[0]), ("b", truth[1], guess[1])]
    table = compute_metrics(count_masks(pairs), [0, 1], ["dot", "bar", "oil"])
    value = {m: pick(table, m)["value"] for m in table["metric"].unique()}
    assert value["false_alarm_rate"] == pytest.approx((0 + 1 + 0) / 3)
    # Class 1 is in no truth: it counts in the score, not in the means of the classes there are.
    assert value["micro_dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert value["precision"] == 1
    assert value["imagewise_iou"] == pytest.approx((1 + 1 + 0 + 0 + 0.5 + 1) / 6)
    assert value["score"] == pytest.approx((1 + 1 + 0 + 0 + 2 / 3 + 1) / 6)
    nothing = compute_metrics(count_masks([("a", truth[1], truth[1])] * 2), [0, 1], list("abc"))
    assert np.isnan(pick(nothing, "boundary_f1", "a")["value"])
    assert np.isnan(pick(nothing, "micro_dice")["value"])


def test_soft_pixel_accuracy_stands_beside_background_alone():
    counts = one_class(([1, 0], [1, 0]), ([0, 0], [0, 0]))
    soft = np.array([[3.0, 1.0, 4.0], [6.0, 6.0, 6.0]])
    table = compute_metrics(counts, [0, 1], ["dot"], soft)
    assert pick(table, "soft_pixel_accuracy").tolist() == [0.9, 0.75, 1.0]
    assert pick(table, "soft_pixel_accuracy_of_background")["value"] == 0.7


def test_the_same_seed_gives_the_same_intervals(monkeypatch):
    counts = count_masks(random_pairs())
    first, second = (compute_metrics(counts, np.arange(5), NAMES) for _ in range(2))
    assert first.equals(second)
    monkeypatch.setattr(metrics, "SEED", 1)
    assert not first["low"].equals(compute_metrics(counts, np.arange(5), NAMES)["low"])


def test_class_table_has_a_row_a_class_in_their_order_and_all_of_them_last():
    table = compute_metrics(count_masks(random_pairs()), np.arange(5), NAMES)
    wide = class_table(table, ("recall", "score"))
    assert wide.index.tolist() == [*NAMES, ALL_CLASSES]
    assert wide.columns.tolist() == ["recall", "score"]
    assert wide.loc["bar", "recall"] == pick(table, "recall", "bar")["value"]
    assert wide.loc[ALL_CLASSES, "score"] == pick(table, "score")["value"]
    assert np.isnan(wide.loc["bar", "score"])


def test_nested_rows_of_one_group_are_not_measured():
    counts = count_masks(random_pairs())
    table = compute_metrics(counts, np.zeros(5), NAMES, nested=counts.counts[..., :3])
    assert table.loc[table["metric"].str.startswith("nested"), "value"].isna().all()


def test_nested_rows_are_score_and_dice_of_the_counts():
    counts = count_masks(random_pairs())
    table = compute_metrics(counts, np.arange(5), NAMES, nested=counts.counts[..., :3])
    assert pick(table, "nested_score").tolist() == pick(table, "score").tolist()
    for name in NAMES:
        of_class = pick(table, "nested_micro_dice", name)
        assert of_class["value"] == pick(table, "micro_dice", name)["value"]


def test_each_metric_has_a_meaning_and_all_classes_come_first():
    counts, groups = count_masks(random_pairs()), np.arange(5)
    table = compute_metrics(counts, groups, NAMES, np.ones((5, 3)), counts.counts[..., :3])
    assert set(table["metric"]) == set(METRICS)
    assert table["class"].iloc[0] == ALL_CLASSES
