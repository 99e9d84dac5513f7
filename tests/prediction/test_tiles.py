"""Parts of images: crops, tiles and batches."""

from itertools import pairwise

import numpy as np
import pytest

from defectmill.files import DefectmillError
from defectmill.prediction.tiles import (
    blend_tiles,
    cut_tile,
    place_crop,
    shown_shape,
    split_batches,
    split_tiles,
    tile_origins,
)
from defectmill.settings import CropData, ResizeData


@pytest.mark.parametrize(
    ("sides", "shape", "overlap"),
    [
        ((50, 71), (16, 24), 4),
        ((16, 24), (16, 24), 4),
        ((17, 24), (16, 24), 0),
        ((9, 100), (16, 24), 8),
        ((5, 7), (16, 24), 3),
        ((40, 48), (20, 24), 0),
    ],
)
def test_tiles_cover_the_image_and_blend_back_into_it(sides, shape, overlap):
    image = np.random.default_rng(0).uniform(0, 1, (*sides, 3)).astype(np.float32)
    tiles, origins = split_tiles(image, shape, overlap)
    assert tiles.shape[1:] == (*shape, 3)
    np.testing.assert_allclose(blend_tiles(iter(tiles), origins, sides), image, atol=1e-6)


def test_neighbours_share_at_least_the_overlap():
    for side in range(16, 90):
        tops = sorted({top for top, _ in tile_origins((side, 30), (16, 24), 5)})
        assert tops[0] == 0
        assert tops[-1] == side - 16
        assert all(b - a <= 16 - 5 for a, b in pairwise(tops))


def test_constant_tiles_blend_without_a_seam():
    origins = tile_origins((61, 83), (32, 40), 8)
    tiles = (np.full((32, 40, 2), [0.3, 0.7], np.float32) for _ in origins)
    whole = blend_tiles(tiles, origins, (61, 83))
    np.testing.assert_allclose(whole, np.broadcast_to([0.3, 0.7], (61, 83, 2)), atol=1e-6)


def test_where_tiles_disagree_the_change_is_gradual():
    origins = [(0, 0), (0, 20)]
    tiles = [np.zeros((10, 40, 1), np.float32), np.ones((10, 40, 1), np.float32)]
    row = blend_tiles(tiles, origins, (10, 60))[5, :, 0]
    assert row[:20].max() == 0
    assert row[40:].min() == 1
    assert np.diff(row).min() >= -1e-6
    assert np.diff(row).max() < 0.15


def test_the_size_of_a_tile_is_one_tile():
    assert tile_origins((31, 47), (31, 47), 8) == [(0, 0)]


@pytest.mark.parametrize("overlap", [-1, 16, 20])
def test_an_overlap_that_does_not_fit_is_refused(overlap):
    with pytest.raises(DefectmillError, match=f"overlap {overlap}"):
        tile_origins((50, 60), (16, 24), overlap)


def test_a_tile_that_leaves_the_image_is_extended_by_reflection():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert cut_tile(image, (0, 1), (2, 3))[:, :, 0].tolist() == [[1, 2, 3], [5, 6, 7]]
    assert cut_tile(image, (1, 2), (3, 4))[:, :, 0].tolist() == [
        [6, 7, 7, 6],
        [10, 11, 11, 10],
        [10, 11, 11, 10],
    ]


def test_whole_images_are_shown_at_the_scale_of_crops_or_in_one_shape():
    assert shown_shape((30, 21), CropData(scale=0.5)) == (15, 10)
    assert shown_shape((1, 90), CropData(scale=0.25)) == (1, 22)
    assert shown_shape((30, 21), ResizeData(shape=(16, 48))) == (16, 48)


@pytest.mark.parametrize(
    ("sides", "centre", "margin", "rows", "columns"),
    [
        ((20, 30), (10, 15), 1, range(8, 12), range(12, 18)),
        ((20, 30), (0, 29), 1, range(4), range(24, 30)),  # it stays inside the image
        ((20, 30), (10, 15), 2, range(6, 14), range(9, 21)),  # and is larger than what it shows
        ((20, 30), (0, 0), 1.5, [1, 0, 1, 2, 3, 4], [2, 1, 0, 1, 2, 3, 4, 5, 6]),  # reflected
        ((3, 2), (1, 1), 1, [0, 1, 2, 1], [0, 1, 0, 1, 0, 1]),  # no image has room for it
        ((1, 30), (0, 15), 1, [0, 0, 0, 0], range(12, 18)),
    ],
)
def test_a_crop_shows_four_rows_and_six_columns(sides, centre, margin, rows, columns):
    shown = np.array([4.0, 6.0])
    found = place_crop(np.array(sides), np.array(centre, float), shown, margin)
    assert [places.tolist() for places in found] == [list(rows), list(columns)]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [
        (6, 3, [3, 3]),
        (8, 3, [3, 3, 2]),
        (7, 3, [3, 4]),  # the last would stand alone
        (5, 2, [2, 3]),
        (3, 1, [1, 1, 1]),
        (1, 4, [1]),
        (4, 9, [4]),
    ],
)
def test_batches_hold_everything_once_and_none_only_the_last_thing(n, size, sizes):
    batches = split_batches(n, size)
    assert [len(batch) for batch in batches] == sizes
    assert [thing for batch in batches for thing in batch] == list(range(n))
