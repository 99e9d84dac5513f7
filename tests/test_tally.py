"""Tallies, on masks small enough to count by eye."""

import numpy as np
import pytest

from defectmill.image_table import classes_by_image
from defectmill.postprocess import masks_to_labels
from defectmill.scores import count_runs
from defectmill.tally import COUNTS, confuse, find_edge, tally_labels, tally_masks, tally_pairs


def box(shape, rows, columns):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


def counted(truth, guess, tolerance=2):
    return dict(
        zip(COUNTS, tally_masks(truth[..., None], guess[..., None], tolerance)[0], strict=True)
    )


def test_edge_is_the_outermost_ring_and_not_the_rim_of_the_picture():
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
    # The inner corner of an L touches the outside by a corner alone.
    bent = np.ones((9, 12), np.uint8)
    bent[:3, :3] = 0
    assert not find_edge(bent)[3, 3]
    assert find_edge(bent)[3, 2]


def test_a_far_edge_is_not_met():
    truth, guess = box((9, 30), slice(2, 6), slice(2, 6)), box((9, 30), slice(2, 6), slice(20, 24))
    row = counted(truth, guess)
    assert (row["edge_truth"], row["edge_truth_met"], row["edge_predicted_met"]) == (12, 0, 0)


def test_an_empty_answer_meets_no_edge():
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
    images = classes_by_image(tables[0])
    images[["height", "width"]] = list(shapes.values())
    tally = tally_labels(*tables, images)
    assert tally.image_ids == ["a", "b", "c"]
    np.testing.assert_array_equal(
        np.moveaxis(tally.counts[..., :3], -1, 0), np.stack(count_runs(*tables))
    )
    assert tally.confusion[:2, :2].trace() == tally.counts[..., 0].sum()


def test_no_pictures_is_refused():
    with pytest.raises(ValueError, match="no pictures"):
        tally_pairs([])
