"""Folds, on image tables."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectmill.curation.folds import ALWAYS_TRAINS, assign_folds, find_relatives
from defectmill.files import DefectmillError
from defectmill.images import read_image, write_image
from fake_competition import make_info


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


def test_images_without_any_defect_are_refused():
    with pytest.raises(DefectmillError, match="none of 18 images has a defect: there is nothing to learn"):
        assign_folds(image_table(6).assign(classes=""), 3, seed=0)


def test_a_dataset_of_few_defects_is_split_and_some_folds_have_none():
    images = image_table(6).assign(classes=["1"] + [""] * 8 + ["1"] + [""] * 8)
    folds = assign_folds(images, 3, seed=0)
    assert sorted(np.bincount(folds)) == [6, 6, 6]
    assert images.groupby(folds)["classes"].max().tolist().count("") == 1


def test_few_images_of_many_kinds_are_split_too():
    images = image_table(4, per_group=1).assign(classes=["1", "2", "3", "4"])
    assert sorted(assign_folds(images, 4, seed=0)) == [0, 1, 2, 3]


def test_as_many_images_of_each_kind_as_folds_give_every_fold_one():
    images = image_table(6, per_group=1).assign(classes=["1", "2", "1", "2", "2", "1"])
    for seed in range(8):
        table = images.assign(fold=assign_folds(images, 3, seed))
        assert table.groupby("fold")["classes"].agg(sorted).tolist() == [["1", "2"]] * 3


def test_the_only_group_of_a_class_always_trains():
    images = image_table(24)
    images.loc[images["group"] == 5, "classes"] = "7"
    images.loc[images["ImageId"] == "3.png", "classes"] = "1 8"  # of group 1, as two others
    folds = assign_folds(images, 4, seed=0)
    alone = images["group"].isin([1, 5])
    assert (folds[alone] == ALWAYS_TRAINS).all()
    assert sorted(set(folds[~alone])) == [0, 1, 2, 3]


def test_fewer_groups_than_folds_is_refused():
    said = "4 folds need as many groups; there are 3: lower labels.n_folds to 3"
    with pytest.raises(DefectmillError, match=re.escape(said)):
        assign_folds(image_table(3), 4, seed=0)
    with pytest.raises(DefectmillError, match=r"there are 2: lower labels\.n_folds to 2$"):
        assign_folds(image_table(2), 3, seed=0)
    with pytest.raises(
        DefectmillError, match="2 folds need as many groups; there are 1: more parts are needed"
    ):
        assign_folds(image_table(1), 2, seed=0)


def test_pseudo_labels_and_their_copies_always_train_and_the_other_folds_are_as_without_them():
    images = image_table(24)
    alone = assign_folds(images, 4, seed=3)
    names = ["pseudo__a.png", "elastic__pseudo__a.png.png", "pseudo__b.png", "pseudo__c.png"]
    more = pd.DataFrame({"ImageId": names, "group": [24, 24, 25, 26], "classes": ["1", "1", "7", ""]})
    places = [0, 5, 30, 72]  # among the others, not after them
    mixed = pd.DataFrame(np.insert(images.to_numpy(object), places, more, axis=0), columns=images.columns)
    folds = assign_folds(mixed.astype({"group": int}), 4, seed=3)
    is_new = mixed["ImageId"].isin(names)
    assert is_new.sum() == 4
    assert (folds[is_new] == ALWAYS_TRAINS).all()
    np.testing.assert_array_equal(folds[~is_new], alone)


def test_a_name_that_only_holds_the_word_gets_a_fold():
    images = image_table(6).assign(classes="1")
    renamed = images.assign(ImageId=[f"my_pseudo__{n}.png" for n in range(18)])
    np.testing.assert_array_equal(assign_folds(renamed, 3, seed=0), assign_folds(images, 3, seed=0))


def test_pseudo_labels_make_up_for_no_group():
    images = image_table(4)
    images.loc[9:, "ImageId"] = [f"pseudo__{n}.png" for n in range(3)]
    with pytest.raises(DefectmillError, match="4 folds need as many groups; there are 3"):
        assign_folds(images, 4, seed=0)


@pytest.fixture
def dataset(tmp_path):
    """One training and one test image, and in "new" a copy of each that is brighter, and one more."""
    rng = np.random.default_rng(0)
    for path in ("fake/train_images/a.png", "fake/test_images/b.png", "new/c.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / path, rng.integers(0, 200, (24, 40), np.uint8))
    (tmp_path / "fake" / "solution.csv").touch()
    for part, name in (("train", "a"), ("test", "b")):
        brighter = read_image(tmp_path / "fake" / f"{part}_images" / f"{name}.png") + np.uint8(9)
        write_image(tmp_path / "new" / f"like_{name}.png", brighter)
    return tmp_path


def relatives(folder, ids, **info):
    return find_relatives(folder / "new", ids, folder / "fake", make_info().model_copy(update=info))


def test_new_images_of_parts_that_train_or_are_scored_are_found(dataset):
    ids = ["c.png", "like_a.png", "like_b.png"]
    trained, scored = (f"of one group with a {kind} image" for kind in ("training", "test"))
    assert relatives(dataset, ids) == {"like_a.png": trained, "like_b.png": scored}
    (dataset / "fake" / "solution.csv").unlink()
    assert relatives(dataset, ids) == {"like_a.png": trained}
    assert relatives(dataset, []) == {}


def test_the_reason_is_the_test_image_where_a_new_image_is_like_both(dataset):
    (dataset / "fake" / "train_images" / "d.png").write_bytes(
        (dataset / "fake" / "test_images" / "b.png").read_bytes()
    )
    assert relatives(dataset, ["like_b.png"]) == {"like_b.png": "of one group with a test image"}


def test_an_equal_name_joins_only_where_names_tell_the_part(dataset):
    for name in ("a.png", "a_2.png", "b.png"):
        write_image(dataset / "new" / name, read_image(dataset / "new" / "c.png")[::-1])
        assert relatives(dataset, [name]) == {}
    found = relatives(dataset, ["a.png", "b.png", "c.png"], group_pattern=r"^([a-z])\.")
    assert set(found) == {"a.png", "b.png"}
    found = relatives(dataset, ["a_2.png", "c.png"], group_pattern=r"^([a-z])[_.]")
    assert set(found) == {"a_2.png"}


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(6, 40))
def test_folds_of_any_table_keep_groups_together_and_leave_none_out(seed, n_folds, n):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_folds), rng.integers(0, 2 * n_folds, n)])
    kinds = rng.choice(["", "1", "2", "1 2", "2 3"], len(groups), p=[0.5, 0.2, 0.1, 0.15, 0.05])
    kinds[0] = "1"
    names = [f"{'pseudo__' * bool(rng.random() < 0.1 and k >= n_folds)}{k}.png" for k in range(len(groups))]
    images = pd.DataFrame({"ImageId": names, "group": groups, "classes": kinds})
    is_pseudo = images["ImageId"].str.startswith("pseudo").to_numpy()
    real = images[~is_pseudo].assign(fold=assign_folds(images, n_folds, seed % 1000)[~is_pseudo])
    assert (assign_folds(images, n_folds, seed % 1000)[is_pseudo] == ALWAYS_TRAINS).all()
    assert real.groupby("group")["fold"].nunique().eq(1).all()
    assert {*range(n_folds)} <= {*real["fold"]} <= {*range(ALWAYS_TRAINS, n_folds)}
    # Always training: a group with a class that no other has, and where enough others are left only those.
    each = real.assign(kind=real["classes"].str.split()).explode("kind").dropna(subset="kind")
    alone = {*each[each.groupby("kind")["group"].transform("nunique") == 1]["group"]}
    enough = real["group"].nunique() - len(alone) >= n_folds
    assert {*real["group"][real["fold"] == ALWAYS_TRAINS]} == (alone if enough else set())
