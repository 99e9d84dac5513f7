"""Defect tables, by hand on a picture of 6 rows and 9 columns."""

import numpy as np
import pytest

from defectmill.defects import COLUMNS, list_defects, summarize_defects
from fake_competition import make_card


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Of class 1 a pixel at the top right; of class 2 a bar, and two pixels that touch at a
    corner."""
    masks, probs = np.zeros((6, 9, 2), np.uint8), np.zeros((6, 9, 2), np.float32)
    masks[0, 8, 0] = masks[3, 1, 1] = masks[4, 2, 1] = 1
    masks[1:3, 4:8, 1] = 1
    probs[0, 8, 0] = 0.5
    probs[3, 1, 1], probs[4, 2, 1] = 0.5, 1.0
    probs[1:3, 4:8, 1] = 0.75
    probs[5, :, :] = 0.9  # outside every mask
    return masks, probs


def test_each_blob_is_a_row_the_largest_of_its_class_first(drawn):
    found = list_defects("a.png", *drawn, make_card())
    assert found.columns.tolist() == COLUMNS
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("a.png", 1, "bar 1", 1, 0, 8, 1, 1, 0.0, 8.0, 0.5),
        ("a.png", 2, "bar 2", 8, 1, 4, 2, 4, 1.5, 5.5, 0.75),
        ("a.png", 2, "bar 2", 2, 3, 1, 2, 2, 3.5, 1.5, 0.75),
    ]


def test_larger_blob_below_a_smaller_one_comes_first():
    masks = np.zeros((6, 9, 2), np.uint8)
    masks[0, 0, 0] = masks[3:5, 3:7, 0] = 1
    assert list_defects("a.png", masks, masks * 0.5, make_card())["area"].tolist() == [8, 1]


def test_clean_picture_has_an_empty_table_with_all_columns():
    nothing = np.zeros((6, 9, 2))
    found = list_defects("a.png", nothing.astype(np.uint8), nothing, make_card())
    assert (len(found), found.columns.tolist()) == (0, COLUMNS)
    assert summarize_defects(found).empty


@pytest.mark.parametrize("shape", [(6, 9, 1), (9, 6, 2), (6, 9, 3)])
def test_maps_that_do_not_fit_the_masks_are_refused(drawn, shape):
    with pytest.raises(ValueError, match=r"a\.png: masks \(6, 9, 2\) and probabilities"):
        list_defects("a.png", drawn[0], np.zeros(shape), make_card())


def test_classes_beyond_the_card_are_refused(drawn):
    with pytest.raises(ValueError, match="of 3 classes"):
        list_defects("a.png", *drawn, make_card(n_classes=3))


def test_summary_counts_defects_and_images_of_each_class(drawn):
    summary = summarize_defects(list_defects("a.png", *drawn, make_card()))
    assert summary.reset_index().to_numpy().tolist() == [
        [1, "bar 1", 1, 1, 1, 1.0, 1],
        [2, "bar 2", 2, 1, 2, 5.0, 8],
    ]
