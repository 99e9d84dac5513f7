"""The drawn sample: its form, its randomness, and that a threshold does not solve it."""

import numpy as np
import pytest

from defectmill.datasets.sample.pictures import draw_picture, draw_pictures


def test_an_image_has_severstals_form_and_the_classes_asked_for():
    for class_ids in ((), (1,), (2,), (3, 4)):
        image, masks = draw_picture(np.random.default_rng(7), class_ids)
        assert (image.shape, image.dtype) == ((256, 1600), np.uint8)
        assert (masks.shape, masks.dtype) == ((256, 1600, 4), np.uint8)
        assert [c + 1 for c in range(4) if masks[:, :, c].any()] == list(class_ids)
        assert masks.sum(axis=2).max(initial=0) <= 1


def test_an_image_depends_on_seed_and_index_only():
    few = list(draw_pictures(seed=5, n_train=2, n_test=1))
    more = list(draw_pictures(seed=5, n_train=2, n_test=2))
    assert [picture.part for picture in more] == ["train", "train", "test", "test"]
    assert len({picture.image_id for picture in more}) == 4
    for one, two in zip(few, more, strict=False):
        assert one.image_id == two.image_id
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.masks, two.masks)
    other = next(iter(draw_pictures(seed=6, n_train=1, n_test=0)))
    assert not np.array_equal(other.image, few[0].image)


@pytest.mark.parametrize("class_ids", [(5,), (0,), (3, 3)])
def test_a_class_that_cannot_be_drawn_is_named(class_ids):
    with pytest.raises(ValueError, match=str(class_ids[0])):
        draw_picture(np.random.default_rng(0), class_ids)


def test_no_grey_level_alone_finds_the_defects():
    """The best global threshold, predicted as the commonest class, scores below the empty submission."""
    pictures = list(draw_pictures(seed=11, n_train=24, n_test=0))
    images, truth = (np.stack([getattr(p, name) for p in pictures]) for name in ("image", "masks"))
    dice = (truth.sum(axis=(1, 2)) == 0).astype(float)  # of the empty submission
    floor, best, scratches = dice.mean(), 0.0, truth[..., 2]
    for level in range(20, 240, 20):
        for guess in (images < level, images > level):
            total = (scratches + guess).sum(axis=(1, 2))
            dice[:, 2] = np.where(total, 2 * (scratches & guess).sum(axis=(1, 2)) / np.maximum(total, 1), 1)
            best = max(best, dice.mean() if guess.any() else 0)
    assert 0 < best < floor
