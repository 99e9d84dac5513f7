"""Single augmentations: a marker stays under its mask, and each does what it is called."""

import albumentations as A
import numpy as np
import pytest

from defectmill.warps import LIGHTS, MOVES

SHAPE = (120, 200)
MIDDLE = (np.array(SHAPE) - 1) / 2
SPOTS = ((30, 50), (64, 150), (90, 80))


def marked() -> tuple[np.ndarray, np.ndarray]:
    image = np.full((*SHAPE, 1), 40, np.uint8)
    masks = np.zeros((*SHAPE, 2), np.uint8)
    for row, column in SPOTS:
        image[row - 6 : row + 6, column - 6 : column + 6] = 220
        masks[row - 6 : row + 6, column - 6 : column + 6, 1] = 1
    return image, masks


def warp(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    compose = A.Compose([(MOVES | LIGHTS)[name](SHAPE)])
    compose.set_random_seed(seed)
    image, masks = marked()
    done = compose(image=image, mask=masks)
    return done["image"].reshape(SHAPE), done["mask"]


def radius(mask: np.ndarray) -> float:
    """Mean distance of the marked pixels from the middle."""
    return float(np.hypot(*(np.argwhere(mask) - MIDDLE).T).mean())


@pytest.mark.parametrize("name", MOVES)
def test_marker_moves_with_its_mask(name):
    start, moved = marked()[1][..., 1], 0
    for seed in range(8):
        image, masks = warp(name, seed)
        bright, mask = image > 130, masks[..., 1] == 1
        assert mask.any()
        assert (bright & mask).sum() / (bright | mask).sum() > 0.88
        assert set(np.unique(masks)) == {0, 1}
        assert not masks[..., 0].any()
        moved += (masks[..., 1] != start).any()
    assert moved >= 7


@pytest.mark.parametrize("name", LIGHTS)
def test_light_leaves_the_mask_and_changes_the_picture(name):
    image, masks = marked()
    for seed in range(4):
        lit, kept = warp(name, seed)
        np.testing.assert_array_equal(kept, masks)
        assert (lit != image[..., 0]).any()


def test_barrel_draws_the_rim_in_and_pincushion_pushes_it_out():
    start = radius(marked()[1][..., 1])
    assert all(radius(warp("barrel", seed)[1][..., 1]) < start for seed in range(6))
    assert all(radius(warp("pincushion", seed)[1][..., 1]) > start for seed in range(6))


def test_flips_turn_over_the_right_axis():
    _, masks = marked()
    np.testing.assert_array_equal(warp("horizontal-flip", 0)[1], masks[:, ::-1])
    np.testing.assert_array_equal(warp("vertical-flip", 0)[1], masks[::-1])


def test_shrinking_makes_the_marks_smaller():
    image = np.zeros((*SHAPE, 1), np.uint8)
    image[56:64, 96:104] = 1
    compose = A.Compose([MOVES["shrink"](SHAPE)])
    compose.set_random_seed(1)
    assert 20 < compose(image=image, mask=image)["mask"].sum() < 64
