"""Single transforms and pipelines: a mark stays under its mask, and each does what it is called."""

import albumentations as A
import numpy as np
import pytest

from defectmill.config import ConfigError
from defectmill.training.augment import (
    FEATHER,
    PIPELINES,
    PIXEL_TRANSFORMS,
    SPATIAL_TRANSFORMS,
    Augmenter,
    cut_defect,
    mix_rectangle,
    paste_defect,
)

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


@pytest.mark.parametrize("name", ["strong", "crack"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_blowhole_of_six_pixels_never_vanishes(name, channels):
    augment = Augmenter(name, (40, 40))
    image, masks = np.full((60, 60, channels), 120, np.uint8), np.zeros((60, 60, 1), np.uint8)
    image[29:31, 29:32], masks[29:31, 29:32] = 40, 1
    for seed in range(60):
        shown, kept = augment(image, masks, seed)
        assert kept.any()
        assert shown[kept[..., 0] > 0].min() < np.median(shown) - 20


@pytest.mark.parametrize("name", ["strong", "crack"])
def test_a_thin_dark_line_stays_under_its_mask(name):
    augment = Augmenter(name, (40, 60))
    image, masks = np.full((60, 90, 3), 150, np.uint8), np.zeros((60, 90, 1), np.uint8)
    image[29:31], masks[29:31] = 50, 1
    for seed in range(30):
        shown, kept = augment(image, masks, seed)
        under = kept[..., 0] > 0
        assert under.sum() > 40
        assert shown[under].mean() < shown[~under].mean() - 25


def test_an_image_without_a_defect_is_transformed_as_one_with():
    image, masks = crop("surface")
    for seed in range(5):
        with_defect, _ = Augmenter("surface", SHAPE)(image, masks, seed)
        clean, kept = Augmenter("surface", SHAPE)(image, np.zeros_like(masks), seed)
        np.testing.assert_array_equal(clean, with_defect)
        assert not kept.any()


class Drawn:
    """A generator that draws what it is told."""

    def __init__(self, *values):
        self.values = list(values)

    def random(self, size=None):
        return self.values.pop(0)


def test_a_rectangle_of_another_crop_replaces_image_and_masks_alike():
    crop = np.full((12, 16, 1), 10, np.uint8), np.zeros((12, 16, 2), np.uint8)
    other = np.full((12, 16, 1), 200, np.uint8), np.ones((12, 16, 2), np.uint8)
    # A quarter of the 8 x 12 that are shown, in their middle; then one that leaves them at the upper right.
    for centre, box in (([0.5, 0.5], np.s_[4:8, 5:11]), ([0.0, 1.0], np.s_[2:4, 11:14])):
        image, masks = mix_rectangle(crop, other, (8, 12), Drawn(0.25, np.array(centre)))
        expected = np.zeros((12, 16), np.uint8)
        expected[box] = 1
        np.testing.assert_array_equal(masks, np.stack([expected] * 2, 2))
        np.testing.assert_array_equal(image[..., 0], np.where(expected, 200, 10))
    assert crop[0].max() == 10


GROUND, SHOWN = (90, 120), (60, 80)  # of a crop with its margin, and of what is shown of it


def ground(level=100, *boxes, shape=GROUND, dark=50):
    """A flat grey crop with dark defects of the second class."""
    image, masks = np.full((*shape, 1), level, np.uint8), np.zeros((*shape, 2), np.uint8)
    for box in boxes:
        image[box], masks[(*box, 1)] = dark, 1
    return image, masks


def cut(*boxes, seed=0, level=100, dark=50):
    return cut_defect(ground(level, *boxes, dark=dark), 1, np.random.default_rng(seed))


def test_a_defect_is_cut_out_with_its_surroundings():
    shapes = set()
    for seed in range(20):
        found = cut(np.s_[30:36, 50:60], seed=seed)
        shapes.add(found.alpha.shape)
        assert found.masks.sum() == 6 * 10
        np.testing.assert_array_equal(found.alpha == 1, found.masks[..., 1] == 1)
        np.testing.assert_array_equal(found.image[..., 0] == 50, found.masks[..., 1] == 1)
        assert found.alpha[FEATHER, FEATHER + 1] == 1
        assert 0 < found.alpha[0].max() < 0.02
        assert found.cut == [(False, False), (False, False)]
    side, length = 6 + 2 * FEATHER, 10 + 2 * FEATHER
    assert shapes == {(side, length), (length, side)}


def test_a_defect_is_cut_out_in_all_eight_positions():
    corner = ground(100, np.s_[30:31, 50:56], np.s_[30:33, 50:51])
    found = {cut_defect(corner, 1, np.random.default_rng(seed)).masks.tobytes() for seed in range(80)}
    assert len(found) == 8


def test_near_defects_are_cut_out_together_and_far_ones_alone():
    near = cut(np.s_[30:36, 50:60], np.s_[30:36, 60 + 2 * FEATHER - 1 : 74])
    far = cut(np.s_[30:36, 50:60], np.s_[70:76, 50:60])
    assert near.masks.sum() == 6 * 10 + 6 * 3
    assert far.masks.sum() == 6 * 10


def test_a_defect_in_the_bend_of_another_is_left_out():
    sums = set()
    for seed in range(40):
        found = cut(np.s_[30:34, 20:80], np.s_[34:80, 20:24], np.s_[60:64, 60:64], seed=seed)
        sums.add(int(found.masks.sum()))
        np.testing.assert_array_equal(found.alpha == 1, found.masks[..., 1] == 1)
    assert sums <= {4 * 60 + 46 * 4, 16}
    assert max(sums) == 4 * 60 + 46 * 4


def test_what_is_not_there_is_not_cut_out():
    assert cut_defect(ground(100, np.s_[30:36, 50:60]), 0, np.random.default_rng(0)) is None


def test_a_pasted_defect_is_as_much_darker_than_its_new_ground_as_it_was():
    for seed in range(20):
        start = ground(150)
        image, masks = paste_defect(start, cut(np.s_[30:36, 50:60]), SHOWN, np.random.default_rng(seed))
        assert masks[..., 1].sum() == 6 * 10
        np.testing.assert_array_equal(np.unique(image[masks[..., 1] > 0]), [75])
        np.testing.assert_array_equal(np.unique(image[masks[..., 1] == 0]), [150])
        assert not masks[..., 0].any()
        assert start[0].min() == 150
        assert not start[1].any()


def test_most_of_a_pasted_defect_is_shown_and_it_lies_anywhere():
    rows, columns = [], []
    for seed in range(60):
        _, masks = paste_defect(ground(), cut(np.s_[30:50, 50:60]), SHOWN, np.random.default_rng(seed))
        assert masks[15:75, 20:100].sum() >= masks.sum() / 2 > 0
        top, left = np.argwhere(masks[..., 1]).min(axis=0)
        rows.append(top)
        columns.append(left)
    assert np.ptp(rows) > 40
    assert np.ptp(columns) > 60


def test_a_defect_that_was_cut_off_ends_at_the_border():
    found = cut(np.s_[0:60, 50:60])
    for seed in range(20):
        _, masks = paste_defect(ground(), found, SHOWN, np.random.default_rng(seed))
        rows, columns = np.nonzero(masks[..., 1])
        assert (
            0 in (rows.min(), columns.min()) or GROUND[0] - 1 == rows.max() or GROUND[1] - 1 == columns.max()
        )


def test_nothing_is_pasted_over_another_defect():
    labelled = ground(100, np.s_[20:70, 30:60])
    pasted = 0
    for seed in range(20):
        image, masks = paste_defect(labelled, cut(np.s_[30:36, 50:60]), SHOWN, np.random.default_rng(seed))
        np.testing.assert_array_equal(image[20:70, 30:60], labelled[0][20:70, 30:60])
        assert masks.sum() in (50 * 30, 50 * 30 + 6 * 10)
        pasted += masks.sum() > 50 * 30
    assert pasted > 10


def rough(level=100):
    image, masks = ground(level)
    image[::2] = level + 60
    return image, masks


@pytest.mark.parametrize(
    ("crop", "cutting"),
    [
        (ground(220), cut(np.s_[30:36, 50:60])),  # more than twice as bright
        (ground(40), cut(np.s_[30:36, 50:60])),  # less than half as bright
        (rough(), cut(np.s_[30:36, 50:60])),
        (ground(150), cut(np.s_[30:36, 50:60], dark=200)),  # would be overexposed
        (ground(), cut(np.s_[30:66, 30:70])),  # more than a quarter
        (
            ground(),
            cut(np.s_[0:90, 50:60], np.s_[40:50, 0:120]),
        ),  # cut on all sides, and turned it does not fit
    ],
)
def test_a_defect_that_does_not_fit_is_not_pasted(crop, cutting):
    for seed in range(10):
        image, masks = paste_defect(crop, cutting, SHOWN, np.random.default_rng(seed))
        assert image is crop[0]
        assert masks is crop[1]
