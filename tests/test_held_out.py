"""Held-out pictures: each once, whole or in tiles."""

import numpy as np
import pytest

from defectmill.held_out import HeldOutSequence
from defectmill.knobs import DataKnobs
from defectmill.pictures import Pictures


def make(competition, batch_size=2, tile=None, **knobs):
    labels, images, folder = competition
    knobs = DataKnobs(**{"shape": (16, 18), **knobs})
    return HeldOutSequence(Pictures(labels, images, folder, 2, knobs), batch_size, tile)


def test_every_picture_comes_once(competition):
    sequence = make(competition)
    # The grey level of the last pixel tells the picture.
    seen = [int(i[-1, -1, 0]) for n in range(len(sequence)) for i in sequence[n][0]]
    assert sorted(seen) == [0, 10, 20, 30, 40]


def test_whole_pictures_come_in_batches_of_one_size(competition):
    sequence = make(competition, batch_size=8)
    shapes = [sequence[i][0].shape for i in range(len(sequence))]
    assert sorted(shapes) == [(1, 24, 33, 1), (1, 30, 20, 1), (3, 24, 40, 1)]
    # Keras takes what the first two batches share for fixed.
    assert shapes[0][1] != shapes[1][1]
    assert shapes[0][2] != shapes[1][2]


def test_scale_shrinks_whole_pictures_and_their_masks(competition):
    sequence = make(competition, scale=0.5, batch_size=8)
    (images, masks), = (
        sequence[i] for i in range(len(sequence)) if sequence[i][0].shape[1:3] == (12, 20)
    )  # fmt: skip
    assert masks[0, 2:4, 3:5, 1].all()
    assert masks.sum() == 8
    assert images[0, 2:4, 3:5, 0].min() == 250


def test_tiles_cover_every_pixel_of_every_picture(competition):
    sequence = make(competition, batch_size=3, tile=(12, 20))
    batches = [sequence[n] for n in range(len(sequence))]
    assert {images.shape[1:] for images, _ in batches} == {(12, 20, 1)}
    assert [len(images) for images, _ in batches] == [3] * 5 + [4]
    # 24 x 40 four times (one is 24 x 33, whose tiles share columns), 30 x 20 in three.
    assert sum(len(images) for images, _ in batches) == 4 * 4 + 3
    defects = sum(masks[..., 1].sum() for _, masks in batches)
    assert defects == 2 * 16
    for images, masks in batches:
        assert (images[masks[..., 1:] > 0] == 250).all()


def test_a_picture_smaller_than_a_tile_is_extended(competition):
    images, masks = make(competition, batch_size=9, tile=(32, 48))[0]
    assert images.shape == (5, 32, 48, 1)
    assert set(np.unique(images[4])) == {40.0}
    assert masks.shape == (5, 32, 48, 2)


def test_batches_are_float32(competition):
    images, masks = make(competition, tile=(12, 20))[0]
    assert (images.dtype, masks.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("tile", [None, (12, 20)])
def test_no_batch_past_the_end(competition, tile):
    sequence = make(competition, tile=tile)
    with pytest.raises(IndexError):
        sequence[len(sequence)]
