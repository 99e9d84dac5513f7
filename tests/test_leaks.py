"""Leaks: a copier that is given twins looks clever, and is found out."""

import numpy as np
import pandas as pd
import pytest

from defectmill.labels import draw_masks
from defectmill.leaks import copy_nearest, naive_answers, report_leaks
from defectmill.postprocess import masks_to_labels


def make_set(n_parts: int, shots: int, seed: int = 0):
    """Parts with a defect each of its own place, photographed several times: tables and prints."""
    rng = np.random.default_rng(seed)
    masks, rows, prints = [], [], []
    for part in range(n_parts):
        print_of_part = rng.normal(size=50)
        for shot in range(shots):
            mask = np.zeros((6, 40, 1), np.uint8)
            mask[1:4, part * 3 : part * 3 + 3] = 1
            masks.append((f"{part}_{shot}", mask))
            rows.append((f"{part}_{shot}", 6, 40, "1", part, part % 2))
            seen = print_of_part + rng.normal(scale=0.2, size=50)
            prints.append(seen / np.linalg.norm(seen))
    images = pd.DataFrame(rows, columns=["ImageId", "height", "width", "classes", "group", "fold"])
    return images, masks_to_labels(masks), np.stack(prints)


def test_random_split_leaks_and_ours_does_not():
    leaks = report_leaks(*make_set(12, 4), n_folds=2, seed=0).set_index("split")
    random, ours = leaks.loc["random split"], leaks.loc["by group"]
    assert (random["images"], ours["images"]) == (48, 48)
    assert random["with a twin in training"] > 36
    assert random["share"] == random["with a twin in training"] / 48
    assert ours["with a twin in training"] == 0
    # Every part has its defect elsewhere: only a twin can be copied.
    assert random["copier's score"] == pytest.approx(random["share"])
    assert random["copier's Dice"] == pytest.approx(random["share"])
    assert (ours["copier's score"], ours["copier's Dice"]) == (0, 0)
    assert (random["floor"], ours["floor"]) == (0, 0)


def test_leak_is_counted_by_image():
    images, labels, prints = make_set(3, 2)
    images["fold"] = [0, 1, 0, 0, 1, 1]
    ours = report_leaks(images, labels, prints, 2, seed=0).iloc[1]
    assert (ours["with a twin in training"], ours["share"]) == (2, 2 / 6)


def test_images_that_always_train_are_not_asked():
    images, labels, prints = make_set(4, 2)
    images.loc[images["group"] == 0, "fold"] = -1
    ours = report_leaks(images, labels, prints, 2, seed=0).iloc[1]
    assert (ours["images"], ours["with a twin in training"]) == (6, 0)


def test_copied_mask_is_brought_to_the_size_of_its_picture():
    mask = np.zeros((6, 10, 2), np.uint8)
    mask[:2, :5, 1] = 1
    labels = masks_to_labels([("small", mask), ("other", mask * 0)])
    known = pd.DataFrame({"ImageId": ["other", "small"], "height": 6, "width": 10})
    asked = pd.DataFrame({"ImageId": ["large", "same"], "height": [12, 6], "width": [20, 10]})
    prints = np.eye(2)
    answer = copy_nearest(labels, known, prints, asked, prints[[1, 1]])
    large = draw_masks(answer, "large", (12, 20), 2)
    assert large[:4, :10, 1].all()
    assert large.sum() == 40
    np.testing.assert_array_equal(draw_masks(answer, "same", (6, 10), 2), mask)


def test_asked_pictures_are_answered_in_order():
    images, labels, prints = make_set(10, 1)
    answer = copy_nearest(labels, images, prints, images[::-1], prints[::-1])
    assert answer["ImageId"].tolist() == images["ImageId"].tolist()[::-1]
    truth = labels.set_index("ImageId")["EncodedPixels"]
    assert answer.set_index("ImageId")["EncodedPixels"].eq(truth[answer["ImageId"]]).all()


def test_naive_answers_by_hand():
    masks = np.zeros((2, 4, 5, 1), np.uint8)
    masks[0, :2] = 1  # 10 of 20 pixels; the second picture is clean
    truth = masks_to_labels([("a", masks[0]), ("b", masks[1])])
    copied = masks_to_labels([("a", masks[1]), ("b", masks[1])])
    images = pd.DataFrame({"ImageId": ["a", "b"], "height": 4, "width": 5})
    answers = naive_answers(truth, copied, images).set_index("answer")
    assert answers.loc["says nothing (floor)"].tolist() == [0.5, 0]
    assert answers.loc["marks everything"].tolist() == [(20 / 30 + 0) / 2, 20 / 50]
    assert answers.loc["copies the likest training picture"].tolist() == [0.5, 0]
