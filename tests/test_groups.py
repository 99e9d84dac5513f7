"""Groups, on drawn textures whose twins are known."""

import shutil

import numpy as np
import pandas as pd
import pytest

from defectmill.groups import _alike, find_groups, find_likest, likest_pairs
from defectmill.images import picture_print, write_image
from defectmill.shots import read_shots
from fake_competition import make_card


def texture(seed: int, shape: tuple[int, int] = (37, 53)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, shape, np.uint8)


def write_all(folder, **images: np.ndarray) -> list[str]:
    for stem, image in images.items():
        write_image(folder / f"{stem}.png", image)
    return [f"{stem}.png" for stem in images]


def test_twins_are_found_in_every_block(monkeypatch):
    prints = np.eye(7, dtype=np.float32)
    prints[6] = prints[4]
    left, right = _alike(prints, 0.9, block=3)
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == sorted(
        [(n, n) for n in range(7)] + [(4, 6), (6, 4)]
    )


def test_different_pictures_stand_alone(tmp_path):
    ids = write_all(tmp_path, a=texture(1), b=texture(2), c=texture(3, (41, 29)))
    assert find_groups(read_shots(tmp_path, ids), make_card()).tolist() == [0, 1, 2]


def test_copies_and_brighter_twins_stand_together(tmp_path):
    lit = (texture(1) * 0.8 + 30).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=texture(2), lit=lit)
    shutil.copy(tmp_path / "b.png", tmp_path / "copy.png")
    groups = find_groups(read_shots(tmp_path, [*ids, "copy.png"]), make_card())
    assert groups.tolist() == [0, 1, 0, 1]


def test_flat_pictures_are_no_twins_unless_they_are_copies(tmp_path):
    flat = np.full((37, 53), 120, np.uint8)
    ids = write_all(tmp_path, a=flat, b=flat + 1, c=flat)
    assert find_groups(read_shots(tmp_path, ids), make_card()).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("near_duplicate", "groups"), [(0.9, [0, 1]), (0.3, [0, 0])])
def test_the_card_says_how_like_twins_are(tmp_path, near_duplicate, groups):
    card = make_card().model_copy(update={"near_duplicate": near_duplicate})
    half = (texture(1) * 0.5 + texture(2) * 0.5).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=half)
    assert find_groups(read_shots(tmp_path, ids), card).tolist() == groups


def test_file_names_join_shots_of_a_part(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"^(part\d+)_"})
    ids = write_all(
        tmp_path, part1_x=texture(1), part10_x=texture(2), part1_y=texture(3), other=texture(4)
    )
    assert find_groups(read_shots(tmp_path, ids), card).tolist() == [0, 1, 0, 2]


def test_running_numbers_join_where_the_gap_is_small(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"num_(\d+)", "group_gap": 200})
    names = [f"num_{n}" for n in (1000, 99, 1200, 1401, 1350, 2000)]
    ids = write_all(tmp_path, **{name: texture(n) for n, name in enumerate(names)})
    # 1000-1200-1350-1401 is a chain of small gaps; 99 and 2000 stand alone.
    assert find_groups(read_shots(tmp_path, ids), card).tolist() == [0, 1, 0, 0, 0, 2]


def test_groups_join_over_a_third_picture(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"^(part\d+)_"})
    ids = write_all(tmp_path, part1_a=texture(1), part1_b=texture(2), part2_a=texture(2))
    assert find_groups(read_shots(tmp_path, ids), card).tolist() == [0, 0, 0]


def test_likest_picture_of_others_is_found_block_by_block():
    others = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], np.float32)
    prints = np.array([[0, 0.8, 0.6], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    places, likeness = find_likest(prints, others, block=3)
    assert places[:3].tolist() == [2, 0, 1]
    assert likeness == pytest.approx([0.96, 1, 1, 0])
    assert find_likest(prints, others[:0])[1].tolist() == [0, 0, 0, 0]


def turned(degrees: float) -> list[float]:
    """A print whose likeness to another is the cosine of the angle between them."""
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


@pytest.mark.parametrize("block", [2, 512])
def test_pairs_on_which_the_threshold_turned_are_told(block):
    card = make_card().model_copy(
        update={"group_pattern": r"^(part\d+)_", "near_duplicate": np.cos(np.radians(15))}
    )
    # a-b 10 degrees (joined), b-c 20, a-c 30 (apart); shots of a part by name: 5, 35.
    names = ["a.png", "b.png", "c.png", *(f"part{n}_{s}.png" for n in (1, 2) for s in "xy")]
    prints = np.array([turned(d) for d in (0, 10, 30, 180, 185, 255, 290)], np.float32)
    images = pd.DataFrame({"ImageId": names, "group": [0, 0, 1, 2, 2, 3, 3]})
    pairs = likest_pairs(images, prints, card, block=block)
    told = [tuple(row) for row in pairs.drop(columns="likeness").itertuples(index=False)]
    assert told[:3] == [("joined", "a.png", "b.png"), ("apart", "b.png", "c.png"),
                        ("apart", "a.png", "c.png")]  # fmt: skip
    assert len(told) == 1 + 4
    assert all(first[:5] != second[:5] for _, first, second in told)
    np.testing.assert_allclose(pairs["likeness"][:3], np.cos(np.radians([10, 20, 30])), atol=1e-6)
    assert len(likest_pairs(images, prints, card, n=1, block=block)) == 2


def test_pairs_of_two_pictures_alone_are_told():
    images = pd.DataFrame({"ImageId": ["a.png", "b.png"], "group": [0, 1]})
    prints = np.stack([picture_print(texture(n)[:, :, None]) for n in (1, 2)])
    pairs = likest_pairs(images, prints, make_card())
    assert pairs["side"].tolist() == ["apart"]
