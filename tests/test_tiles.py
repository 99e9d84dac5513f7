"""Tiles cover a picture, and blend back into it."""

from itertools import pairwise

import numpy as np
import pytest

from defectmill.tiles import blend, split, tile_origins


@pytest.mark.parametrize(
    ("sides", "shape", "overlap"),
    [((50, 71), (16, 24), 4), ((16, 24), (16, 24), 4), ((17, 24), (16, 24), 0),
     ((9, 100), (16, 24), 8), ((5, 7), (16, 24), 3), ((40, 48), (20, 24), 0)],
)  # fmt: skip
def test_tiles_cover_the_picture_and_blend_back_into_it(sides, shape, overlap):
    picture = np.random.default_rng(0).uniform(0, 1, (*sides, 3)).astype(np.float32)
    tiles, origins = split(picture, shape, overlap)
    assert tiles.shape[1:] == (*shape, 3)
    np.testing.assert_allclose(blend(iter(tiles), origins, sides), picture, atol=1e-6)


def test_neighbours_share_at_least_the_overlap():
    for side in range(16, 90):
        tops = sorted({top for top, _ in tile_origins((side, 30), (16, 24), 5)})
        assert tops[0] == 0
        assert tops[-1] == side - 16
        assert all(b - a <= 16 - 5 for a, b in pairwise(tops))


def test_constant_tiles_blend_without_a_seam():
    origins = tile_origins((61, 83), (32, 40), 8)
    tiles = (np.full((32, 40, 2), [0.3, 0.7], np.float32) for _ in origins)
    whole = blend(tiles, origins, (61, 83))
    np.testing.assert_allclose(whole, np.broadcast_to([0.3, 0.7], (61, 83, 2)), atol=1e-6)


def test_where_tiles_disagree_the_change_is_gradual():
    origins = [(0, 0), (0, 20)]
    tiles = [np.zeros((10, 40, 1), np.float32), np.ones((10, 40, 1), np.float32)]
    row = blend(tiles, origins, (10, 60))[5, :, 0]
    assert row[:20].max() == 0
    assert row[40:].min() == 1
    assert np.diff(row).min() >= -1e-6
    assert np.diff(row).max() < 0.15


def test_the_size_of_a_tile_is_one_tile():
    assert tile_origins((31, 47), (31, 47), 8) == [(0, 0)]


@pytest.mark.parametrize("overlap", [-1, 16, 20])
def test_an_overlap_that_does_not_fit_is_refused(overlap):
    with pytest.raises(ValueError, match=f"overlap {overlap}"):
        tile_origins((50, 60), (16, 24), overlap)
