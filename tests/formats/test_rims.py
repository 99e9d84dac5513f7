"""Rims that interpolation left around defects, drawn by hand."""

import numpy as np

from defectmill.formats.rims import find_mixtures, undo_rims
from fake_raw import draw_rims


def test_rims_of_interpolated_class_numbers_are_undone():
    mended, n = undo_rims(draw_rims())
    assert n == 2 * 2 * 34 + 2 * 2 * 20
    assert mended.sum(axis=(0, 1)).tolist()[:2] == [4, 0]
    assert mended[36, 5:9, 0].all()
    assert mended[10:30, 20:50, 2].all()
    assert 600 < mended[..., 2].sum() < 800
    np.testing.assert_array_equal(undo_rims(mended.copy())[0], mended)


def test_a_scratch_that_leaves_the_stain_it_touches_is_no_rim_of_it():
    numbers = np.zeros((40, 60), np.uint8)
    numbers[10:30, 20:50] = 3
    numbers[8:10, 20:50] = 2  # a rim: nowhere farther than three pixels from the stain
    numbers[30:38, 25] = 1  # a scratch: eight pixels away at its end
    masks = (numbers[..., None] == [1, 2, 3]).astype(np.uint8)
    mended, n = undo_rims(masks, [(0, 2), (1, 2)])
    assert n == 60
    assert mended.sum(axis=(0, 1)).tolist()[:2] == [8, 0]
    assert undo_rims(masks, [(0, 2)])[1] == 0
    assert undo_rims(masks, [])[1] == 0


def test_a_number_between_background_and_another_class_may_be_a_mixture():
    assert find_mixtures([(1, 1, 1), (3, 3, 3), (2, 2, 2)], 0, True) == [(0, 1), (0, 2), (2, 1)]
    assert find_mixtures([(255, 0, 0), (0, 255, 0), (110, 10, 0)], 40, True) == [(2, 0)]
    assert find_mixtures([(255, 0, 0), (0, 255, 0)], 40, True) == []
    assert find_mixtures([(255, 0, 0), (0, 255, 0)], 40, False) == [(0, 1), (1, 0)]
