import numpy as np
import pytest

from defectmill.datasets.sample import draw_picture, draw_pictures


def test_a_picture_has_severstals_form_and_the_classes_asked_for():
    for class_ids in ((), (1,), (2,), (3, 4)):
        image, masks = draw_picture(np.random.default_rng(7), class_ids)
        assert (image.shape, image.dtype) == ((256, 1600), np.uint8)
        assert (masks.shape, masks.dtype) == ((256, 1600, 4), np.uint8)
        assert [c + 1 for c in range(4) if masks[:, :, c].any()] == list(class_ids)
        assert masks.sum(axis=2).max(initial=0) <= 1


def test_a_picture_depends_on_seed_and_index_only():
    few = list(draw_pictures(seed=5, n_train=2, n_test=1))
    more = list(draw_pictures(seed=5, n_train=2, n_test=2))
    assert [part for _, part, _, _ in more] == ["train", "train", "test", "test"]
    assert len({image_id for image_id, *_ in more}) == 4
    for one, two in zip(few, more, strict=False):
        assert one[0] == two[0]
        np.testing.assert_array_equal(one[2], two[2])
        np.testing.assert_array_equal(one[3], two[3])
    other = next(iter(draw_pictures(seed=6, n_train=1, n_test=0)))
    assert not np.array_equal(other[2], few[0][2])


@pytest.mark.parametrize("class_ids", [(5,), (0,), (3, 3)])
def test_a_class_that_cannot_be_drawn_is_named(class_ids):
    with pytest.raises(ValueError, match=str(class_ids[0])):
        draw_picture(np.random.default_rng(0), class_ids)


def test_no_grey_level_alone_finds_the_defects():
    """The best global threshold, given as the commonest class, stays under the all-empty answer."""
    pictures = list(draw_pictures(seed=11, n_train=24, n_test=0))
    truth = np.stack([masks for *_, masks in pictures])
    floor = (truth.sum(axis=(1, 2)) == 0).mean()
    best = 0.0
    for level in range(20, 240, 20):
        for dark in (True, False):
            scores = []
            for _, _, image, masks in pictures:
                guess = (image < level) if dark else (image > level)
                for channel in range(4):
                    true = masks[:, :, channel]
                    answer = guess if channel == 2 else np.zeros_like(guess)
                    total = true.sum() + answer.sum()
                    scores.append(1.0 if not total else 2 * (true & answer).sum() / total)
            if guess.any():
                best = max(best, float(np.mean(scores)))
    assert best < floor
