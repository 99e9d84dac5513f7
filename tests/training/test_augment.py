"""Single transforms and pipelines: a mark stays under its mask, and each does what it is called."""

import albumentations as A
import numpy as np
import pytest

from defectmill.config import ConfigError
from defectmill.training.augment import PIPELINES, PIXEL_TRANSFORMS, SPATIAL_TRANSFORMS, Augmenter

SHAPE = (24, 40)
LARGE = (120, 200)
MIDDLE = (np.array(LARGE) - 1) / 2
SPOTS = ((30, 50), (64, 150), (90, 80))


def crop(name):
    """A grey image with a bright block, and its masks, as large as the pipeline wants."""
    margin = PIPELINES[name][1]
    image = np.full((*(int(np.ceil(s * margin)) for s in SHAPE), 1), 60, np.uint8)
    masks = np.zeros((*image.shape[:2], 2), np.uint8)
    middle = tuple(slice(s // 2 - 5, s // 2 + 5) for s in image.shape[:2])
    image[middle], masks[(*middle, 1)] = 220, 1
    return image, masks


def marked() -> tuple[np.ndarray, np.ndarray]:
    image = np.full((*LARGE, 1), 40, np.uint8)
    masks = np.zeros((*LARGE, 2), np.uint8)
    for row, column in SPOTS:
        image[row - 6 : row + 6, column - 6 : column + 6] = 220
        masks[row - 6 : row + 6, column - 6 : column + 6, 1] = 1
    return image, masks


def transform(name: str, seed: int, image=None, masks=None) -> tuple[np.ndarray, np.ndarray]:
    compose = A.Compose([(SPATIAL_TRANSFORMS | PIXEL_TRANSFORMS)[name](LARGE)])
    compose.set_random_seed(seed)
    image, masks = marked() if image is None else (image, masks)
    done = compose(image=image, mask=masks)
    return done["image"].reshape(LARGE), done["mask"]


def radius(mask: np.ndarray) -> float:
    """Mean distance of the marked pixels from the middle."""
    return float(np.hypot(*(np.argwhere(mask) - MIDDLE).T).mean())


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_keeps_types_and_gives_its_shape(name):
    image, masks = Augmenter(name, SHAPE)(*crop(name), seed=1)
    assert (image.shape, image.dtype) == ((*SHAPE, 1), np.uint8)
    assert (masks.shape, masks.dtype) == ((*SHAPE, 2), np.uint8)
    assert set(np.unique(masks)) == {0, 1}
    assert not masks[..., 0].any()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_mark_stays_under_its_mask(name):
    augment = Augmenter(name, SHAPE)
    for seed in range(20):
        image, masks = augment(*crop(name), seed=seed)
        inside = masks[..., 1] == 1
        assert image[..., 0][inside].mean() > image[..., 0][~inside].mean() + 60


@pytest.mark.parametrize("name", PIPELINES)
def test_the_seed_alone_decides(name):
    one, two = Augmenter(name, SHAPE), Augmenter(name, SHAPE)
    two(*crop(name), seed=99)
    for seed in (0, 5):
        for a, b in zip(one(*crop(name), seed=seed), two(*crop(name), seed=seed), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(set(PIPELINES) - {"none", "flips"}))
def test_brightness_changes_touch_the_image_only(name):
    image, masks = crop(name)
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


@pytest.mark.parametrize("name", SPATIAL_TRANSFORMS)
def test_a_spatial_transform_moves_the_mark_with_its_mask(name):
    start, moved = marked()[1][..., 1], 0
    for seed in range(8):
        image, masks = transform(name, seed)
        bright, mask = image > 130, masks[..., 1] == 1
        assert mask.any()
        assert (bright & mask).sum() / (bright | mask).sum() > 0.88
        assert set(np.unique(masks)) == {0, 1}
        assert not masks[..., 0].any()
        moved += (masks[..., 1] != start).any()
    assert moved >= 7


@pytest.mark.parametrize("name", PIXEL_TRANSFORMS)
def test_a_pixel_transform_leaves_the_mask_and_changes_the_image(name):
    image, masks = marked()
    for seed in range(4):
        changed, kept = transform(name, seed)
        np.testing.assert_array_equal(kept, masks)
        assert (changed != image[..., 0]).any()


def test_barrel_draws_the_rim_in_and_pincushion_pushes_it_out():
    start = radius(marked()[1][..., 1])
    assert all(radius(transform("barrel", seed)[1][..., 1]) < start for seed in range(6))
    assert all(radius(transform("pincushion", seed)[1][..., 1]) > start for seed in range(6))


def test_flips_turn_over_the_right_axis():
    _, masks = marked()
    np.testing.assert_array_equal(transform("horizontal-flip", 0)[1], masks[:, ::-1])
    np.testing.assert_array_equal(transform("vertical-flip", 0)[1], masks[::-1])


def test_shrinking_makes_the_marks_smaller():
    image = np.zeros((*LARGE, 1), np.uint8)
    image[56:64, 96:104] = 1
    assert 20 < transform("shrink", 1, image, image)[1].sum() < 64
