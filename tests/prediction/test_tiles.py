"""Parts of images: crops, tiles and batches."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_the_rim_of_a_tile_weighs_little_and_not_nothing():
    """The rim of a Hann window of 40 is 0.0015; a thousandth more keeps a corner from vanishing."""
    tiles = [np.zeros((16, 40, 1), np.float32), np.ones((16, 40, 1), np.float32)]
    row = blend_tiles(tiles, [(0, 0), (0, 30)], (16, 70))[3, :, 0]
    own = np.sin(np.pi * np.array([0.5, 9.5]) / 40) ** 2 + 0.001
    assert row[30] == pytest.approx(own[0] / own.sum(), rel=1e-4)
    assert row[39] == pytest.approx(own[1] / own.sum(), rel=1e-4)


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=80)
@given(SIDES, SIDES, st.integers(0, 39))
def test_any_image_is_covered_by_the_fewest_tiles_and_comes_back(sides, shape, overlap):
    if overlap >= min(shape):
        with pytest.raises(DefectmillError, match=f"overlap {overlap} does not fit"):
            tile_origins(sides, shape, overlap)
        return
    image = np.arange(np.prod(sides), dtype=np.float32).reshape(*sides, 1)
    tiles, origins = split_tiles(image, shape, overlap)
    np.testing.assert_allclose(blend_tiles(tiles, origins, sides), image, rtol=1e-5, atol=1e-4)
    assert (
        len({*origins}) == len(origins) == np.prod([len({*starts}) for starts in zip(*origins, strict=True)])
    )
    for side, tile, starts in zip(sides, shape, zip(*origins, strict=True), strict=True):
        found = sorted({*starts})
        assert (found[0], found[-1]) == (0, max(0, side - tile))
        assert all(1 <= b - a <= tile - overlap for a, b in pairwise(found))
        # One tile fewer would not reach.
        assert len(found) == 1 or tile + (len(found) - 2) * (tile - overlap) < side


@settings(max_examples=80)
@given(SIDES, st.tuples(*[st.floats(-5, 45)] * 2), st.tuples(*[st.floats(1, 50)] * 2), st.floats(1, 2))
def test_any_crop_shows_the_image_and_what_is_reflected_only_where_it_must(sides, centre, shown, margin):
    places = place_crop(np.array(sides), np.array(centre), np.array(shown), margin)
    for found, side, middle, wanted in zip(places, sides, centre, shown, strict=True):
        assert len(found) == int(np.ceil(wanted * margin))
        assert found.min() >= 0
        assert found.max() < side
        assert (np.abs(np.diff(found)) <= 1).all()
        if margin == 1 and np.ceil(wanted) + 1 <= side:
            assert (np.diff(found) == 1).all()
            inside = np.clip(middle, wanted / 2, side - wanted / 2)
            assert abs(found.mean() + 0.5 - inside) <= 1


@given(st.integers(1, 200), st.integers(1, 20))
@settings(max_examples=60)
def test_any_number_of_things_is_shown_once_and_in_even_batches(n, size):
    batches = split_batches(n, size)
    assert [thing for batch in batches for thing in batch] == list(range(n))
    assert all(len(batch) == size for batch in batches[:-1])
    assert 1 < len(batches[-1]) <= size + 1 or 1 in (n, size)
