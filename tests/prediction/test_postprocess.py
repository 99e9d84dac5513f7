"""Thresholds, high thresholds and minimum areas, on maps drawn by hand."""

import numpy as np
import pandas as pd
import pytest

from defectmill.formats.masks.pixels import masks_from_colours
from defectmill.images import list_images, read_image
from defectmill.labels import LabelError, make_label_table
from defectmill.prediction.postprocess import (
    ClassThreshold,
    keep_likeliest,
    make_masks,
    select_components,
    write_colour_masks,
)
from fake_competition import COLOURS, make_info
from fake_maps import LARGE, MAP, SMALL


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (ClassThreshold(0.5, 0.5, 0), LARGE | SMALL),
        (ClassThreshold(0.5, 0.5, 2), LARGE | SMALL),
        (ClassThreshold(0.5, 0.5, 3), LARGE),
        (ClassThreshold(0.5, 0.5, 4), LARGE & SMALL),
        (ClassThreshold(0.5, 0.6, 0), LARGE | SMALL),
        (ClassThreshold(0.5, 0.7, 0), LARGE),
        (ClassThreshold(0.5, 0.8, 0), LARGE),
        (ClassThreshold(0.5, 0.9, 0), LARGE & SMALL),
        (ClassThreshold(1.0, 1.0, 0), LARGE & SMALL),
    ],
)
def test_component_stands_where_it_fulfils_the_threshold(threshold, expected):
    np.testing.assert_array_equal(select_components(MAP, threshold), expected)


def test_probability_must_exceed_the_threshold():
    assert select_components(MAP, ClassThreshold(0.49, 0, 0))[2, 4]
    assert not select_components(MAP, ClassThreshold(0.5, 0, 0))[2, 4]


def test_threshold_of_one_predicts_nothing_even_where_all_is_sure():
    assert not select_components(np.ones((3, 5)), ClassThreshold(1.0, 1.0, 0)).any()


def test_empty_map_has_no_components():
    assert not select_components(np.zeros((3, 5)), ClassThreshold(0.5, 0.5, 0)).any()


def test_only_the_likeliest_class_stands_where_classes_exclude():
    probs = np.array([[[0.6, 0.7], [0.9, 0.2], [0.3, 0.3]]])
    assert keep_likeliest(probs).tolist() == [[[0, 0.7], [0.9, 0], [0.3, 0]]]
    thresholds = [ClassThreshold(0.5, 0.5, 0)] * 2
    assert make_masks(probs, thresholds, exclusive=True).tolist() == [[[0, 1], [1, 0], [0, 0]]]
    assert make_masks(probs, thresholds, exclusive=False).tolist() == [[[1, 1], [1, 0], [0, 0]]]


def test_a_defect_in_a_filled_hole_of_another_class_keeps_its_pixels_where_classes_exclude():
    ring, dot = np.zeros((2, 5, 7))
    ring[1:4, 1:5], ring[2, 2:4] = 0.9, 0
    dot[2, 2] = 0.8
    filled = [ClassThreshold(0.5, 0.5, 0, fill_holes=True)] * 2
    masks = make_masks(np.stack([ring, dot], 2), filled, exclusive=True)
    assert masks[2].tolist() == [[0, 0], [1, 0], [0, 1], [1, 0], [1, 0], [0, 0], [0, 0]]
    assert masks.sum(axis=(0, 1)).tolist() == [11, 1]
    shared = make_masks(np.stack([ring, dot], 2), filled, exclusive=False)
    assert shared.sum(axis=(0, 1)).tolist() == [12, 1]


def test_each_class_has_its_own_threshold():
    masks = make_masks(
        np.stack([MAP, MAP], 2), [ClassThreshold(0.5, 0.7, 0), ClassThreshold(0.5, 0.5, 9)], False
    )
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[:, :, 0], LARGE)
    assert not masks[:, :, 1].any()


@pytest.mark.parametrize("n", [1, 3])
def test_thresholds_and_classes_must_match(n):
    with pytest.raises(ValueError, match="zip"):
        make_masks(np.stack([MAP, MAP], 2), [ClassThreshold(0.5, 0.5, 0)] * n, False)


def test_colour_masks_show_each_class_in_its_colour_and_replace_the_folder(tmp_path):
    labels = make_label_table([("a.png", 1, "1 2"), ("a.png", 2, "6 1"), ("b.jpg", 1, ""), ("b.jpg", 2, "")])
    images = pd.DataFrame({"ImageId": ["a.png", "b.jpg"], "height": [2, 3], "width": [3, 5]})
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "old.png").touch()
    write_colour_masks(labels, images, folder, make_info())
    assert list_images(folder) == ["a.png", "b.png"]
    masks, n_off = masks_from_colours(read_image(folder / "a.png", 3), COLOURS[:2])
    assert (np.argwhere(masks).tolist(), n_off) == ([[0, 0, 0], [1, 0, 0], [1, 2, 1]], 0)
    assert read_image(folder / "b.png").shape == (3, 5, 1)
    with pytest.raises(LabelError, match=r"a\.png class 2"):
        write_colour_masks(labels, images.assign(width=2), folder, make_info())
    assert list_images(folder) == ["a.png", "b.png"]


def test_the_threshold_of_an_image_gives_the_mask_of_the_largest_expected_dice():
    """All sums by hand, over 2 x 3 pixels; 0.2 is worth 0.1 after calibration, 0.8 what it says."""
    levels = np.linspace(0, 1, 256)
    calibration = tuple(np.where(levels < 0.5, levels / 2, levels).tolist())
    probs = np.array([[0.8, 0.8, 0.2], [0.2, 0, 0]])
    # Two pixels: 2 * 1.6 / (2 + 1.8); four: 2 * 1.8 / (4 + 1.8).
    for expected_dice, cut in [(0.84, 203.5 / 255), (0.85, 1)]:
        wanted = ClassThreshold(0.0, 0.0, 0, expected_dice=expected_dice, calibration=calibration)
        assert wanted.cut(probs) == pytest.approx(cut)
    assert ClassThreshold(0.4, 0.5, 0, calibration=calibration).cut(probs) == 0.4
    # Less sure, the same four pixels are all worth taking: 2 * 0.4 / (4 + 0.4), against 2 * 0.2 / (2 + 0.4).
    faint = np.array([[0.2, 0.2, 0.2], [0.2, 0, 0]])
    wanted = ClassThreshold(0.0, 0.0, 0, expected_dice=0.05, calibration=calibration)
    assert wanted.cut(faint) == pytest.approx(50.5 / 255)
    assert select_components(faint, wanted).sum() == 4
    assert wanted.cut(np.zeros((2, 3))) == 1
