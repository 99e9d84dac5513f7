"""Colour masks both ways."""

import numpy as np
import pytest

from defectmill.palette import colours_from_masks, masks_from_colours

COLOURS = [(255, 0, 0), (0, 255, 0), (255, 255, 0)]


def test_colour_mask_gives_one_channel_a_colour():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0], picture[0, 2], picture[1, 1] = COLOURS
    masks, n_off = masks_from_colours(picture, COLOURS)
    assert masks.shape == (2, 3, 3)
    assert masks.dtype == np.uint8
    assert [np.argwhere(masks[..., c]).tolist() for c in range(3)] == [[[0, 0]], [[0, 2]], [[1, 1]]]
    assert n_off == 0


def test_round_trip_keeps_every_pixel():
    chosen = np.random.default_rng(0).integers(0, 4, (7, 11))
    masks = (chosen[..., None] == [1, 2, 3]).astype(np.uint8)
    again, n_off = masks_from_colours(colours_from_masks(masks, COLOURS), COLOURS)
    np.testing.assert_array_equal(again, masks)
    assert n_off == 0


def test_colour_off_the_palette_is_the_nearest_and_counted():
    picture = np.array([[(130, 0, 0), (120, 0, 0), (250, 3, 1), (0, 0, 255)]], np.uint8)
    masks, n_off = masks_from_colours(picture, COLOURS)
    assert masks[0].tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert n_off == 4


@pytest.mark.parametrize("colours", [[(1, 2, 3), (1, 2, 3)], [(9, 9, 9), (0, 0, 0)]])
def test_colours_that_cannot_be_told_apart_are_refused(colours):
    with pytest.raises(ValueError, match="not all different and not black"):
        masks_from_colours(np.zeros((2, 3, 3), np.uint8), colours)
