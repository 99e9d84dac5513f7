"""Leakage: a nearest-neighbour baseline with duplicates to copy from scores high, and is found out."""

import numpy as np
import pandas as pd
import pytest

from defectmill.curation.leakage import baselines, copy_across_folds, copy_nearest, leak_report
from defectmill.labels import draw_masks, masks_to_labels


def make_set(n_parts: int, n_shots: int, seed: int = 0):
    """Parts with a defect each of its own place, photographed several times: tables and fingerprints."""
    rng = np.random.default_rng(seed)
    masks, rows, fingerprints = [], [], []
    for part in range(n_parts):
        of_part = rng.normal(size=50)
        for shot in range(n_shots):
            mask = np.zeros((6, 40, 1), np.uint8)
            mask[1:4, part * 3 : part * 3 + 3] = 1
            masks.append((f"{part}_{shot}", mask))
            rows.append((f"{part}_{shot}", 6, 40, "1", part, part % 2))
            seen = of_part + rng.normal(scale=0.2, size=50)
            fingerprints.append(seen / np.linalg.norm(seen))
    images = pd.DataFrame(rows, columns=["ImageId", "height", "width", "classes", "group", "fold"])
    return images, masks_to_labels(masks), np.stack(fingerprints)


def test_random_split_leaks_and_ours_does_not():
    leaks = leak_report(*make_set(12, 4), n_folds=2, seed=0).set_index("split")
    random, ours = leaks.loc["random split"], leaks.loc["by group"]
    assert (random["images"], ours["images"]) == (48, 48)
    assert random["duplicates in training"] > 36
    assert random["share"] == random["duplicates in training"] / 48
    assert ours["duplicates in training"] == 0
    # Every part has its defect elsewhere: only a duplicate can be copied.
    assert random["1-NN score"] == pytest.approx(random["share"])
    assert random["1-NN Dice"] == pytest.approx(random["share"])
    assert (ours["1-NN score"], ours["1-NN Dice"]) == (0, 0)
    assert (random["floor"], ours["floor"]) == (0, 0)


def test_leak_is_counted_by_image():
    images, labels, fingerprints = make_set(3, 2)
    images["fold"] = [0, 1, 0, 0, 1, 1]
    ours = leak_report(images, labels, fingerprints, 2, seed=0).iloc[1]
    assert (ours["duplicates in training"], ours["share"]) == (2, 2 / 6)


def test_images_that_always_train_are_not_predicted():
    images, labels, fingerprints = make_set(4, 2)
    images.loc[images["group"] == 0, "fold"] = -1
    ours = leak_report(images, labels, fingerprints, 2, seed=0).iloc[1]
    assert (ours["images"], ours["duplicates in training"]) == (6, 0)


def test_images_without_a_defect_leave_no_dice_to_measure():
    images, labels, fingerprints = make_set(2, 2)
    clean = labels.assign(EncodedPixels="", hasMask=False)
    assert leak_report(images, clean, fingerprints, 2, seed=0)["1-NN Dice"].tolist() == [0, 0]
    assert baselines(clean, clean, images)["micro_dice"].isna().all()


def test_copied_mask_is_brought_to_the_size_of_its_image():
    mask = np.zeros((6, 10, 2), np.uint8)
    mask[:2, :5, 1] = 1
    labels = masks_to_labels([("small", mask), ("other", mask * 0)])
    known = pd.DataFrame({"ImageId": ["other", "small"], "height": 6, "width": 10})
    asked = pd.DataFrame({"ImageId": ["large", "same"], "height": [12, 6], "width": [20, 10]})
    fingerprints = np.eye(2)
    predicted = copy_nearest(labels, known, fingerprints, asked, fingerprints[[1, 1]])
    large = draw_masks(predicted, "large", (12, 20), 2)
    assert large[:4, :10, 1].all()
    assert large.sum() == 40
    np.testing.assert_array_equal(draw_masks(predicted, "same", (6, 10), 2), mask)


def test_masks_are_predicted_in_the_order_asked_for():
    images, labels, fingerprints = make_set(10, 1)
    predicted = copy_nearest(labels, images, fingerprints, images[::-1], fingerprints[::-1])
    assert predicted["ImageId"].tolist() == images["ImageId"].tolist()[::-1]
    truth = labels.set_index("ImageId")["EncodedPixels"]
    assert predicted.set_index("ImageId")["EncodedPixels"].eq(truth[predicted["ImageId"]]).all()


def test_baselines_by_hand():
    masks = np.zeros((2, 4, 5, 1), np.uint8)
    masks[0, :2] = 1  # 10 of 20 pixels; the second image is clean
    truth = masks_to_labels([("a", masks[0]), ("b", masks[1])])
    copied = masks_to_labels([("a", masks[1]), ("b", masks[1])])
    images = pd.DataFrame({"ImageId": ["a", "b"], "height": 4, "width": 5})
    table = baselines(truth, copied, images).set_index("baseline")
    assert table.loc["empty submission (floor)"].tolist() == [0.5, 0]
    assert table.loc["everything marked"].tolist() == [(20 / 30 + 0) / 2, 20 / 50]
    assert table.loc["1-nearest neighbour"].tolist() == [0.5, 0]


def test_the_seed_draws_the_random_split_and_nothing_else():
    images, labels, fingerprints = make_set(6, 2)
    leaks = [leak_report(images, labels, fingerprints, 3, seed).set_index("split") for seed in range(4)]
    expected = []
    for seed in range(4):
        folds = np.random.default_rng(seed).permutation(12) % 3
        expected.append(sum(folds[n] != folds[n ^ 1] for n in range(12)))
    assert [leak.loc["random split", "duplicates in training"] for leak in leaks] == expected
    assert len(set(expected)) > 1
    assert all(leak.loc["by group"].equals(leaks[0].loc["by group"]) for leak in leaks)


def test_masks_are_copied_from_the_other_folds_fold_by_fold():
    images, labels, fingerprints = make_set(3, 3)
    images["fold"] = [1, -1, 0, 2, 2, 2, 0, 1, -1]
    copied = copy_across_folds(labels, images, fingerprints)
    assert copied["ImageId"].tolist() == ["0_2", "2_0", "0_0", "2_1", "1_0", "1_1", "1_2"]
    truth = labels.set_index("ImageId")["EncodedPixels"]
    found = copied.set_index("ImageId")["EncodedPixels"]
    is_apart = found.index.str.startswith("1_")  # all images of part 1 are in one fold
    assert (found == truth[found.index]).tolist() == (~is_apart).tolist()
