"""Pixel counts, on masks small enough to count by eye."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from defectmill.evaluation.counts import (
    COUNTS,
    EDGE_TOLERANCE,
    component_table,
    confuse,
    count_image,
    count_masks,
    count_tables,
    find_edge,
    image_curves,
    precision_recall_curves,
    soft_pixel_counts,
    write_counts,
)
from defectmill.files import DefectmillError
from defectmill.labels import masks_to_labels
from defectmill.scores import count_runs


def box(shape, rows, columns):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


def counted(truth, guess, tolerance=EDGE_TOLERANCE):
    return dict(zip(COUNTS, count_image(truth[..., None], guess[..., None], tolerance)[0], strict=True))


def test_edge_is_the_outermost_ring_and_not_the_rim_of_the_image():
    mask = box((6, 9), slice(0, 4), slice(2, 7))
    edge = find_edge(mask)
    assert edge.sum() == 4 + 4 + 3
    assert not edge[0, 3:6].any()
    assert not find_edge(np.ones((4, 7), np.uint8)).any()


@pytest.mark.parametrize(("tolerance", "met"), [(0, 8), (1, 20), (2, 20)])
def test_edges_meet_within_the_tolerance(tolerance, met):
    # A box of 4 x 8 (ring of 20) and the same one pixel to the right.
    truth, guess = (box((12, 20), slice(3, 7), slice(left, left + 8)) for left in (5, 6))
    row = counted(truth, guess, tolerance)
    assert row["edge_truth"] == row["edge_predicted"] == 20
    # Upper and lower rows share 7 pixels each, less the corners that are edge in both anyway.
    assert row["edge_truth_met"] == (14 if tolerance == 0 else met)
    assert row["both"] == 4 * 7


def test_distance_is_straight_and_an_edge_is_touched_by_its_sides_only():
    # A pixel three to the right and two down is 3.6 away, not 3.
    truth, guess = box((9, 12), 3, 3), box((9, 12), 5, 6)
    assert counted(truth, guess, 3)["edge_truth_met"] == 0
    assert counted(truth, guess, 4)["edge_truth_met"] == 1
    # Where nothing else is said, two pixels are near and three are not.
    assert [counted(truth, box((9, 12), 3, 3 + n))["edge_truth_met"] for n in (2, 3)] == [1, 0]
    # The inner corner of an L touches the outside by a corner alone.
    bent = np.ones((9, 12), np.uint8)
    bent[:3, :3] = 0
    assert not find_edge(bent)[3, 3]
    assert find_edge(bent)[3, 2]


def test_a_far_edge_is_not_met():
    truth, guess = box((9, 30), slice(2, 6), slice(2, 6)), box((9, 30), slice(2, 6), slice(20, 24))
    row = counted(truth, guess)
    assert (row["edge_truth"], row["edge_truth_met"], row["edge_predicted_met"]) == (12, 0, 0)


def test_an_empty_prediction_meets_no_edge():
    row = counted(box((9, 12), slice(2, 6), slice(2, 6)), np.zeros((9, 12), np.uint8))
    assert (row["edge_truth"], row["edge_truth_met"], row["edge_predicted"]) == (12, 0, 0)


def test_confusion_has_truth_down_and_background_last():
    truth, guess = np.zeros((2, 2, 3, 2), np.uint8)
    truth[0, :, 0] = 1  # class 1 in the first row
    guess[0, 0, 0] = guess[0, 1, 1] = guess[1, 2, 1] = 1
    assert confuse(truth, guess).tolist() == [[1, 1, 1], [0, 0, 0], [0, 1, 2]]


def test_label_tables_are_counted_as_their_runs():
    rng = np.random.default_rng(3)
    shapes = {"a": (7, 11), "b": (9, 5), "c": (4, 6)}
    tables = [
        masks_to_labels(
            (i, (rng.random((*shape, 2)) < share).astype(np.uint8)) for i, shape in shapes.items()
        )
        for share in (0.4, 0.3)
    ]
    images = pd.DataFrame(
        [(i, *shape) for i, shape in shapes.items()], columns=["ImageId", "height", "width"]
    )
    counts = count_tables(*tables, images)
    assert counts.image_ids == ["a", "b", "c"]
    np.testing.assert_array_equal(np.moveaxis(counts.counts[..., :3], -1, 0), np.stack(count_runs(*tables)))
    assert counts.confusion[:2, :2].trace() == counts.counts[..., 0].sum()


def test_no_images_is_refused():
    with pytest.raises(DefectmillError, match="no images"):
        count_masks([])


def test_soft_pixel_counts_by_hand_beside_background_alone():
    truth = np.zeros((2, 3, 2), np.uint8)
    truth[0, 0, 0] = truth[1, 2, 1] = 1
    probs = np.zeros((2, 3, 2))
    probs[0, 0] = 0.7, 0.1  # the true class: 0.7
    probs[0, 1] = 0.2, 0.2  # background: 0.6
    probs[1, 0] = 0.8, 0.7  # background: 0, not less
    pairs = [(probs, truth), (probs * 0, truth * 0)]
    by_pixel = soft_pixel_counts(pairs, exclusive=True)
    np.testing.assert_allclose(by_pixel, [[0.7 + 0.6 + 0 + 2 + 0, 4, 6], [6, 6, 6]])
    by_class = soft_pixel_counts(pairs, exclusive=False)
    np.testing.assert_allclose(by_class, [[0.7 + 0.9 + 0.8 + 0.8 + 0.2 + 0.3 + 5, 10, 12], [12, 12, 12]])
    assert soft_pixel_counts([], exclusive=True).shape == (0, 3)


def test_precision_recall_curves_by_hand():
    truth = np.array([[1, 0, 1, 0]], np.uint8)[:, :, None]
    first, second = (np.array([row], np.float32)[:, :, None] for row in ([1, 0.8, 0.4, 0], [0.8, 0, 0, 0]))
    curves = precision_recall_curves([(first, truth), (second, truth * 0)], ["dot"])
    assert curves["class"].tolist() == ["dot"] * 4
    np.testing.assert_allclose(curves["threshold"], [0, 0.4, 0.8, 1])
    np.testing.assert_allclose(curves["precision"], [2 / 8, 2 / 4, 1 / 3, 1])
    np.testing.assert_allclose(curves["recall"], [1, 1, 1 / 2, 1 / 2])


def test_precision_and_recall_at_a_threshold_are_those_of_the_masks_above_it():
    rng = np.random.default_rng(2)
    drawn = [(rng.integers(0, 256, (6 + n, 9, 3)) / 255, rng.random((6 + n, 9, 3)) < 0.3) for n in range(3)]
    pairs = [(probs.astype(np.float32), truth.astype(np.uint8) * [1, 0, 1]) for probs, truth in drawn]
    curves = precision_recall_curves(pairs, ["dot", "nowhere", "bar"])
    assert curves["class"].unique().tolist() == ["dot", "bar"]
    probs, truth = (np.concatenate([pair[k][..., 2].ravel() for pair in pairs]) for k in (0, 1))
    for row in curves[curves["class"] == "bar"].itertuples():
        marked = probs > row.threshold - 1e-6
        assert row.precision == pytest.approx(truth[marked].mean())
        assert row.recall == pytest.approx(truth[marked].sum() / truth.sum())


def test_no_images_give_no_curves():
    assert precision_recall_curves([], ["dot"]).columns.tolist() == [
        "class",
        "threshold",
        "precision",
        "recall",
    ]


def peaked(*peaks):
    """Maps of 2 x 5 pixels and one class with these highest probabilities."""
    maps = np.zeros((len(peaks), 2, 5, 1), np.float32)
    maps[:, 1, 3, 0] = peaks
    return maps


def test_image_curves_by_hand():
    truth = np.zeros((4, 2, 5, 1), np.uint8)
    truth[:2, 0, 0] = 1  # elsewhere than the highest probability: images count, not pixels
    curves = image_curves(zip(peaked(0.75, 0.25, 0.5, 0.25), truth, strict=True), ["dot"])
    assert curves.to_numpy().tolist() == [
        ["dot", 0.25, 2 / 4, 1.0, 1.0],
        ["dot", 0.5, 1 / 2, 0.5, 0.5],
        ["dot", 0.75, 1.0, 0.5, 0.0],
    ]


def test_image_curves_without_clean_images_have_no_false_alarms_and_of_no_class_no_rows():
    truth = np.zeros((2, 2, 5, 2), np.uint8)
    truth[:, 0, 0, 1] = 1
    curves = image_curves(zip(peaked(0.5, 0.25).repeat(2, axis=3), truth, strict=True), ["nowhere", "bar"])
    assert curves["class"].unique().tolist() == ["bar"]
    assert curves["precision"].tolist() == [1, 1]
    assert curves["recall"].tolist() == [1, 0.5]
    assert curves["false_alarm_rate"].isna().all()
    none = image_curves([], ["dot"])
    assert none.columns.tolist() == ["class", "threshold", "precision", "recall", "false_alarm_rate"]
    assert none.empty


def tabulate(truth, predicted):
    """Component table of {image id: (H, W, C) masks} on both sides."""
    tables = [masks_to_labels(side.items()) for side in (truth, predicted)]
    rows = [(i, *mask.shape[:2]) for i, mask in truth.items()]
    return component_table(*tables, pd.DataFrame(rows, columns=["ImageId", "height", "width"]))


def test_components_are_counted_by_area_image_by_image():
    truth, guess = ({"a": np.zeros((8, 30, 2), np.uint8), "b": np.zeros((9, 7, 2), np.uint8)} for _ in "tp")
    truth["a"][0, :3, 0] = 1  # 3 pixels, missed
    truth["a"][2:4, 0:2, 0] = 1  # 4 pixels, hit by one pixel
    truth["a"][5, 5:8, 0] = truth["a"][6, 8, 0] = 1  # 4 pixels, joined by a corner, missed
    truth["b"][0, 0, 1] = 1  # another class, at a pixel that is predicted as the first
    guess["a"][3, 1:20, 0] = 1  # 19 pixels, right
    guess["b"][0, 0, 0] = guess["b"][4:6, 2:6, 0] = 1  # 1 pixel and 8 pixels, false
    table = tabulate(truth, guess)
    columns = ["ClassId", "smallest", "largest", "true", "hit", "predicted", "false"]
    assert table[columns].to_numpy().tolist() == [
        [1, 1, 3, 1, 0, 1, 1],
        [1, 4, 15, 2, 1, 1, 1],
        [1, 16, 63, 0, 0, 1, 0],
        [2, 1, 3, 1, 0, 0, 0],
        [2, 4, 15, 0, 0, 0, 0],
        [2, 16, 63, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(table["recall"], [0, 0.5, np.nan, 0, np.nan, np.nan])
    np.testing.assert_array_equal(table["precision"], [0, 0, 1, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("area", "smallest"), [(1, 1), (3, 1), (4, 4), (15, 4), (16, 16), (63, 16), (64, 64)]
)
def test_bins_of_components_begin_at_powers_of_four(area, smallest):
    truth = np.zeros((3, 70, 1), np.uint8)
    truth[1, :area] = 1
    (row,) = tabulate({"a": truth}, {"a": truth}).itertuples()
    assert (row.smallest, row.largest, row.true, row.hit, row.false) == (smallest, 4 * smallest - 1, 1, 1, 0)


def test_areas_that_no_component_has_stand_between_those_that_some_have():
    truth = np.zeros((3, 70, 1), np.uint8)
    truth[0, 5] = truth[2, :20] = 1  # 1 pixel and 20
    table = tabulate({"a": truth}, {"a": truth})
    assert table[["smallest", "true"]].to_numpy().tolist() == [[1, 1], [4, 0], [16, 1]]


def test_no_components_give_no_rows_and_a_missing_image_is_refused():
    clean = {"a": np.zeros((3, 5, 2), np.uint8)}
    table = tabulate(clean, clean)
    assert table.empty
    assert "precision" in table
    with pytest.raises(KeyError):
        tabulate(clean, {"b": clean["a"]})


def test_counts_are_written_as_numpy_reads_them(tmp_path):
    counts = np.arange(12).reshape(2, 2, 3)
    write_counts(counts, tmp_path / "nested.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "nested.npy"), counts)
    assert [path.name for path in tmp_path.iterdir()] == ["nested.npy"]


MASKS = st.tuples(*[st.integers(0, 2**32 - 1)], st.integers(1, 9), st.integers(1, 11), st.integers(1, 3)).map(
    lambda drawn: (
        np.random.default_rng(drawn[0]).integers(0, 2, (2, *drawn[1:]), np.uint8)
        & np.random.default_rng(drawn[0] + 1).integers(0, 2, (2, 1, 1, drawn[3]), np.uint8)
    )
)


@settings(max_examples=30)
@given(MASKS)
def test_counts_of_any_masks_are_those_of_sets_and_turn_with_them(pair):
    truth, guess = pair
    counts = count_image(truth, guess)
    assert counts[:, :3].T.tolist() == [
        (m > 0).sum(axis=(0, 1)).tolist() for m in (truth & guess, truth, guess)
    ]
    assert (counts[:, [4, 6, 8, 10]] <= counts[:, [3, 5, 7, 9]]).all()
    assert (counts[:, 3:7:2] <= counts[:, 1:3]).all()
    swapped = count_image(guess, truth)
    assert swapped[:, [0, 2, 1, 5, 6, 3, 4, 9, 10, 7, 8]].tolist() == counts.tolist()
    turned = count_image(truth[::-1, ::-1], guess[::-1, ::-1])
    assert turned[:, :7].tolist() == counts[:, :7].tolist()
    same = count_image(truth, truth)
    assert same[:, [3, 7]].tolist() == same[:, [4, 8]].tolist()
    confusion, n_classes = confuse(truth, guess), truth.shape[2]
    for one, two in np.ndindex(n_classes, n_classes):
        assert confusion[one, two] == (truth[:, :, one] & guess[:, :, two]).sum()
    assert confusion[-1, -1] == (~truth.any(axis=2) & ~guess.any(axis=2)).sum()


@settings(max_examples=12)
@given(MASKS)
def test_components_of_any_masks_are_those_of_scipy(pair):
    truth, guess = (masks_to_labels([("a", masks)]) for masks in pair)
    images = pd.DataFrame({"ImageId": ["a"], "height": pair.shape[1], "width": pair.shape[2]})
    table = component_table(truth, guess, images)
    for kind, total, met in (0, "true", "hit"), (1, "predicted", None):
        for channel in range(pair.shape[3]):
            mine, other = pair[kind, :, :, channel], pair[1 - kind, :, :, channel]
            numbers, n = ndimage.label(mine, np.ones((3, 3)))
            areas = np.bincount(numbers.ravel(), minlength=n + 1)[1:]
            hit = np.array([other[numbers == k].any() for k in range(1, n + 1)], bool)
            for row in table[table["ClassId"] == channel + 1].to_dict("records"):
                inside = (areas >= row["smallest"]) & (areas <= row["largest"])
                assert row[total] == inside.sum()
                assert (row[met] if met else row[total] - row["false"]) == (inside & hit).sum()
            assert table.loc[table["ClassId"] == channel + 1, total].sum() == n
