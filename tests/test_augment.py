import numpy as np
import pytest

from defectmill.augment import PIPELINES, Augmenter
from defectmill.config import ConfigError

SHAPE = (24, 40)


def window(name):
    """A grey picture with a bright block, and its mask, as large as the pipeline wants."""
    margin = PIPELINES[name][1]
    image = np.full((*(int(np.ceil(s * margin)) for s in SHAPE), 1), 60, np.uint8)
    masks = np.zeros((*image.shape[:2], 2), np.uint8)
    middle = tuple(slice(s // 2 - 5, s // 2 + 5) for s in image.shape[:2])
    image[middle], masks[(*middle, 1)] = 220, 1
    return image, masks


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_keeps_types_and_gives_its_shape(name):
    image, masks = Augmenter(name, SHAPE)(*window(name), seed=1)
    assert (image.shape, image.dtype) == ((*SHAPE, 1), np.uint8)
    assert (masks.shape, masks.dtype) == ((*SHAPE, 2), np.uint8)
    assert set(np.unique(masks)) == {0, 1}
    assert not masks[..., 0].any()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_mark_stays_under_its_mask(name):
    augment = Augmenter(name, SHAPE)
    for seed in range(20):
        image, masks = augment(*window(name), seed=seed)
        marked = masks[..., 1] == 1
        assert image[..., 0][marked].mean() > image[..., 0][~marked].mean() + 60


@pytest.mark.parametrize("name", PIPELINES)
def test_the_seed_alone_decides(name):
    one, two = Augmenter(name, SHAPE), Augmenter(name, SHAPE)
    two(*window(name), seed=99)
    for seed in (0, 5):
        a, b = one(*window(name), seed=seed), two(*window(name), seed=seed)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("name", sorted(set(PIPELINES) - {"none", "flips"}))
def test_light_changes_touch_the_picture_only(name):
    image, masks = window(name)
    levels = {Augmenter(name, SHAPE)(image, masks, seed=s)[0].max() for s in range(20)}
    assert len(levels) > 5


def test_rotation_never_shows_a_border():
    image = np.full((36, 60, 1), 200, np.uint8)
    masks = np.zeros((36, 60, 1), np.uint8)
    augment = Augmenter("surface", SHAPE)
    for seed in range(30):
        shown, _ = augment(image, masks, seed=seed)
        assert shown.max() - shown.min() == 0


def test_an_unknown_pipeline_is_named():
    with pytest.raises(ConfigError, match=r"'surfaces'.*surface"):
        Augmenter("surfaces", SHAPE)
