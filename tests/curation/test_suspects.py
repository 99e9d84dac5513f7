"""Suspicious labels, on maps drawn by hand."""

import cv2
import numpy as np
import pytest

from defectmill.curation.suspects import LEAST, rank_suspects
from defectmill.scores import dice_from_counts

SHAPE = (12, 30, 3)
BOXES = ((1, 3), (1, 11)), ((2, 7), (4, 14)), ((0, 10), (20, 30))  # of 20, 50 and 100 pixels
BOX = ["top", "left", "bottom", "right"]


def draw(*parts, ground=0.0):
    """A map or masks of SHAPE: `ground` everywhere, and (rows, columns, channel, value)."""
    drawn = np.full(SHAPE, ground)
    for rows, columns, channel, value in parts:
        drawn[slice(*rows), slice(*columns), channel] = value
    return drawn


def rank_one(probs, truth):
    return rank_suspects([("a.png", probs, truth)])


def test_a_confident_prediction_without_a_label_is_missing():
    probs = draw(((2, 5), (4, 8), 1, 0.9), ((4, 5), (4, 8), 1, 0.7), ground=0.1)
    (row,) = rank_one(probs, draw()).to_dict("records")
    assert row.pop("suspicion") == pytest.approx((8 * 0.8 + 4 * 0.4) / 12)
    place = {"top": 2, "left": 4, "bottom": 5, "right": 8}
    found = {"ImageId": "a.png", "ClassId": 2, "kind": "missing", "area": 12, "PredictedClassId": 2}
    assert row == found | place


def test_a_label_without_a_confident_prediction_is_spurious():
    probs = draw(((2, 5), (4, 8), 0, 0.25), ((2, 5), (4, 5), 0, 0.5))
    (row,) = rank_one(probs, draw(((2, 5), (4, 8), 0, 1))).itertuples()
    assert (row.kind, row.ClassId, row.PredictedClassId, row.area) == ("spurious", 1, 0, 12)
    assert row.suspicion == pytest.approx((9 * 0.5 + 3 * 0) / 12 * 12 / (12 + 1.2))


def test_a_label_that_is_predicted_as_another_class_is_one_finding_with_both():
    box = (2, 8), (4, 10)
    probs, truth = draw((*box, 2, 1.0)), draw((*box, 0, 1))
    (row,) = rank_one(probs, truth).itertuples()
    assert (row.kind, row.ClassId, row.PredictedClassId) == ("wrong class", 1, 3)
    assert row.suspicion == pytest.approx(36 / (36 + 3.6))
    # The prediction covers a third of the label, which is mostly spurious, but itself lies within it.
    part = rank_one(draw(((2, 4), (4, 10), 2, 0.9)), truth)
    assert part["kind"].tolist() == ["spurious", "wrong class"]
    assert part[["ClassId", "PredictedClassId"]].to_numpy().tolist() == [[1, 0], [1, 3]]


def test_two_classes_predicted_where_one_is_labelled_leave_its_label_alone():
    box = (2, 8), (4, 10)
    (row,) = rank_one(draw((*box, 0, 0.9), (*box, 1, 0.9)), draw((*box, 0, 1))).itertuples()
    assert (row.kind, row.ClassId, row.PredictedClassId) == ("missing", 2, 2)
    # Half of the label is not predicted, but hardly any of that as the other class.
    probs = draw(((2, 8), (10, 15), 0, 0.9), ((2, 8), (0, 16), 1, 0.9))
    found = rank_one(probs, draw(((2, 8), (10, 20), 0, 1)))
    assert found[["kind", "PredictedClassId"]].to_numpy().tolist() == [["missing", 2], ["outline", 1]]


def test_an_outline_without_doubt_has_one_less_dice():
    truth, probs = draw(((2, 8), (4, 10), 1, 1)), draw(((2, 8), (8, 16), 1, 1.0))
    (row,) = rank_one(probs, truth).itertuples()
    dice = dice_from_counts(np.array(6 * 2), np.array(6 * 6), np.array(6 * 8))
    assert row.suspicion == pytest.approx((1 - dice) * 60 / (60 + 3.6))
    assert (row.kind, row.ClassId, row.PredictedClassId, row.area) == ("outline", 2, 2, 6 * 10)
    assert [getattr(row, edge) for edge in BOX] == [2, 4, 8, 16]
    doubted = draw(((2, 8), (4, 8), 1, 0.45), ((2, 8), (8, 16), 1, 0.75))
    assert rank_one(doubted, truth)["suspicion"][0] == pytest.approx(
        (24 * 0.1 + 36 * 0.5) / (36 + 48) * 60 / (60 + 3.6)
    )


def test_labels_that_the_network_shares_are_no_findings_and_corners_join():
    box = ((2, 8), (4, 10), 0)
    assert rank_one(draw((*box, 0.9)), draw((*box, 1))).empty
    # Uncertain: a speck just above a half.
    assert rank_one(draw(((9, 10), (20, 22), 2, 0.5 + LEAST / 2.1)), draw()).empty
    joined = rank_one(draw(((1, 3), (1, 3), 0, 0.9), ((3, 5), (3, 5), 0, 0.9)), draw())
    assert joined[BOX].to_numpy().tolist() == [[1, 1, 5, 5]]


def test_boxes_that_overlap_are_one_place_only_in_one_image():
    probs = draw(((2, 8), (4, 10), 0, 0.8), ((2, 8), (5, 11), 1, 0.9), ((2, 8), (14, 20), 0, 0.7))
    found = rank_suspects([("a.png", probs, draw()), ("b.png", probs, draw())])
    assert found[["ImageId", "ClassId", "left"]].to_numpy().tolist() == [
        ["a.png", 2, 5],
        ["b.png", 2, 5],
        ["a.png", 1, 14],
        ["b.png", 1, 14],
    ]
    np.testing.assert_allclose(found["suspicion"], [0.8, 0.8, 0.4, 0.4])


def test_specks_count_less_than_what_is_as_large_as_usual():
    usual = [(f"{n}.png", draw((*box, 0, 1.0)), draw((*box, 0, 1))) for n, box in enumerate(BOXES)]
    probs = draw(((1, 2), (1, 6), 0, 0.9), ((4, 9), (10, 20), 0, 0.75), ((1, 2), (25, 26), 1, 0.9))
    found = rank_suspects([*usual, ("a.png", probs, draw())])
    assert found["ClassId"].tolist() == [2, 1, 1]  # no component of class 2 is labelled
    np.testing.assert_allclose(found["suspicion"], [0.8, 0.5 * 50 / (50 + 5), 0.8 * 5 / (5 + 5)])


def test_no_images_and_clean_ones_give_an_empty_table():
    for maps in ([], [("a.png", draw(), draw())]):
        found = rank_suspects(maps)
        assert found.empty
        assert found.columns.tolist()[:4] == ["ImageId", "ClassId", "kind", "suspicion"]


def blob(rng):
    mask = np.zeros((64, 160), np.uint8)
    centre = int(rng.integers(25, 135)), int(rng.integers(18, 46))
    axes = int(rng.integers(8, 20)), int(rng.integers(5, 12))
    return cv2.ellipse(mask, centre, axes, int(rng.integers(180)), 0, 360, 1, -1)


def test_planted_errors_stand_before_what_a_network_gets_wrong_itself():
    """20 wrong labels among 120 images; the network blurs, doubts, overlooks some and sees specks."""
    rng, maps, wrong = np.random.default_rng(4), [], {}
    for n in range(120):
        true, labelled = np.zeros((2, 64, 160, 2), np.uint8)
        channel, image_id = n % 2, f"{n}.png"
        true[:, :, channel] = labelled[:, :, channel] = blob(rng)
        if n % 6 == 0:
            error = ("deleted", "added", "swapped", "shifted")[n // 6 % 4]
            wrong[image_id] = error
            if error == "deleted":
                labelled[:] = 0
            elif error == "added":
                true[:] = 0
            elif error == "swapped":
                labelled = labelled[:, :, ::-1]
            else:
                labelled = np.roll(labelled, (5, 12), axis=(0, 1))
        strength = rng.uniform(0.7, 1.0) if n % 20 != 3 else 0.45  # there it overlooks the defect
        probs = strength * cv2.GaussianBlur(true.astype(float), (0, 0), 3) + rng.uniform(0, 0.08, true.shape)
        speck = rng.integers(5, 55), rng.integers(5, 150)
        probs[speck[0] : speck[0] + 4, speck[1] : speck[1] + 4, 1 - channel] = rng.uniform(0.4, 0.75)
        maps.append((image_id, np.clip(probs, 0, 1), labelled))
    first = rank_suspects(iter(maps)).head(30)
    assert len(wrong) == 20
    assert len(set(wrong) & set(first["ImageId"])) >= 18
    kinds = {"deleted": "missing", "added": "spurious", "swapped": "wrong class", "shifted": "outline"}
    named = first.drop_duplicates("ImageId").set_index("ImageId")["kind"]
    told = [named[i] == kinds[error] for i, error in wrong.items() if i in named]
    assert np.mean(told) > 0.8
