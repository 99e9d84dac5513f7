"""Groups and folds, on drawn textures whose twins are known."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from defectmill.folds import (
    assign_folds,
    find_groups,
    find_likest,
    likest_pairs,
    report_leaks,
)
from defectmill.images import picture_print, write_image
from fake_competition import make_card


def texture(seed: int, shape: tuple[int, int] = (37, 53)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, shape, np.uint8)


def write_all(folder, **images: np.ndarray) -> list[str]:
    for stem, image in images.items():
        write_image(folder / f"{stem}.png", image)
    return [f"{stem}.png" for stem in images]


def test_different_pictures_stand_alone(tmp_path):
    ids = write_all(tmp_path, a=texture(1), b=texture(2), c=texture(3, (41, 29)))
    assert find_groups(tmp_path, ids, make_card()).tolist() == [0, 1, 2]


def test_copies_and_brighter_twins_stand_together(tmp_path):
    lit = (texture(1) * 0.8 + 30).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=texture(2), lit=lit)
    shutil.copy(tmp_path / "b.png", tmp_path / "copy.png")
    groups = find_groups(tmp_path, [*ids, "copy.png"], make_card())
    assert groups.tolist() == [0, 1, 0, 1]


def test_flat_pictures_are_no_twins_unless_they_are_copies(tmp_path):
    flat = np.full((37, 53), 120, np.uint8)
    ids = write_all(tmp_path, a=flat, b=flat + 1, c=flat)
    assert find_groups(tmp_path, ids, make_card()).tolist() == [0, 1, 0]


def test_threshold_of_likeness_decides(tmp_path):
    half = (texture(1) * 0.5 + texture(2) * 0.5).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=half)
    assert find_groups(tmp_path, ids, make_card(), near_duplicate=0.9).tolist() == [0, 1]
    assert find_groups(tmp_path, ids, make_card(), near_duplicate=0.3).tolist() == [0, 0]


def test_file_names_join_shots_of_a_part(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"^(part\d+)_"})
    ids = write_all(
        tmp_path, part1_x=texture(1), part10_x=texture(2), part1_y=texture(3), other=texture(4)
    )
    assert find_groups(tmp_path, ids, card).tolist() == [0, 1, 0, 2]


def test_running_numbers_join_where_the_gap_is_small(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"num_(\d+)", "group_gap": 200})
    names = [f"num_{n}" for n in (1000, 99, 1200, 1401, 1350, 2000)]
    ids = write_all(tmp_path, **{name: texture(n) for n, name in enumerate(names)})
    # 1000-1200-1350-1401 is a chain of small gaps; 99 and 2000 stand alone.
    assert find_groups(tmp_path, ids, card).tolist() == [0, 1, 0, 0, 0, 2]


def test_groups_join_over_a_third_picture(tmp_path):
    card = make_card().model_copy(update={"group_pattern": r"^(part\d+)_"})
    ids = write_all(tmp_path, part1_a=texture(1), part1_b=texture(2), part2_a=texture(2))
    assert find_groups(tmp_path, ids, card).tolist() == [0, 0, 0]


def image_table(n_groups: int, per_group: int = 3) -> pd.DataFrame:
    """Class 2 in one group of four, class 1 in another, the rest clean."""
    group = np.repeat(np.arange(n_groups), per_group)
    classes = [("1", "2", "", "")[g % 4] for g in group]
    ids = [f"{n}.png" for n in range(len(group))]
    return pd.DataFrame({"ImageId": ids, "group": group, "classes": classes})


def test_group_is_never_split():
    images = image_table(24)
    images["fold"] = assign_folds(images, 4, seed=0)
    assert images.groupby("group")["fold"].nunique().eq(1).all()
    assert sorted(images["fold"].unique()) == [0, 1, 2, 3]


def test_every_fold_gets_its_share_of_each_class():
    images = image_table(32)
    images["fold"] = assign_folds(images, 4, seed=0)
    counts = pd.crosstab(images["fold"], images["classes"])
    assert counts.to_numpy().tolist() == [[12, 6, 6]] * 4


def test_rarest_class_of_an_image_counts():
    images = image_table(24)
    images.loc[images["classes"] == "1", "classes"] = "1 2"
    images.loc[images["group"] % 12 == 2, "classes"] = "2 3"
    images["fold"] = assign_folds(images, 2, seed=0)
    assert images[images["classes"] == "2 3"]["fold"].value_counts().tolist() == [3, 3]


def test_seed_alone_decides():
    images = image_table(40)
    first = assign_folds(images, 4, seed=1)
    np.testing.assert_array_equal(first, assign_folds(images, 4, seed=1))
    assert (first != assign_folds(images, 4, seed=2)).any()


def test_clean_dataset_is_split_too():
    images = image_table(6).assign(classes="")
    assert sorted(np.bincount(assign_folds(images, 3, seed=0))) == [6, 6, 6]


def test_few_pictures_of_many_kinds_are_split_too():
    images = image_table(4, per_group=1).assign(classes=["1", "2", "3", "4"])
    assert sorted(assign_folds(images, 4, seed=0)) == [0, 1, 2, 3]


def test_fewer_groups_than_folds_is_refused():
    with pytest.raises(ValueError, match=re.escape("4 folds need as many groups; there are 3")):
        assign_folds(image_table(3), 4, seed=0)


def test_random_split_leaks_and_ours_does_not():
    images = image_table(24)
    images["fold"] = assign_folds(images, 4, seed=0)
    leaks = report_leaks(images, 4, seed=0)
    assert leaks["split"].tolist() == ["random split", "by group"]
    assert leaks["images"].tolist() == [72, 72]
    assert leaks["with a twin in training"][0] > 36
    assert leaks["with a twin in training"][1] == 0


def test_leak_is_counted_by_image():
    images = image_table(3, per_group=2).assign(fold=[0, 1, 0, 0, 1, 1])
    leaks = report_leaks(images, 2, seed=0)
    assert leaks.iloc[1].tolist() == ["by group", 6, 2, 2 / 6]


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
    card = make_card().model_copy(update={"group_pattern": r"^(part\d+)_"})
    # a-b 10 degrees (joined), b-c 20, a-c 30 (apart); shots of a part by name: 5, 35.
    names = ["a.png", "b.png", "c.png", *(f"part{n}_{s}.png" for n in (1, 2) for s in "xy")]
    prints = np.array([turned(d) for d in (0, 10, 30, 180, 185, 255, 290)], np.float32)
    images = pd.DataFrame({"ImageId": names, "group": [0, 0, 1, 2, 2, 3, 3]})
    pairs = likest_pairs(images, prints, card, threshold=np.cos(np.radians(15)), block=block)
    told = [tuple(row) for row in pairs.drop(columns="likeness").itertuples(index=False)]
    assert told[:3] == [("joined", "a.png", "b.png"), ("apart", "b.png", "c.png"),
                        ("apart", "a.png", "c.png")]  # fmt: skip
    assert len(told) == 1 + 4
    assert all(first[:5] != second[:5] for _, first, second in told)
    np.testing.assert_allclose(pairs["likeness"][:3], np.cos(np.radians([10, 20, 30])), atol=1e-6)
    assert len(likest_pairs(images, prints, card, np.cos(np.radians(15)), n=1, block=block)) == 2


def test_pairs_of_two_pictures_alone_are_told():
    images = pd.DataFrame({"ImageId": ["a.png", "b.png"], "group": [0, 1]})
    prints = np.stack([picture_print(texture(n)[:, :, None]) for n in (1, 2)])
    pairs = likest_pairs(images, prints, make_card())
    assert pairs["side"].tolist() == ["apart"]
