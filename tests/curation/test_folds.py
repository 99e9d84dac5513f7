"""Folds, on image tables."""

import re

import numpy as np
import pandas as pd
import pytest

from defectmill.curation.folds import ALWAYS_TRAINS, assign_folds
from defectmill.files import DefectmillError


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


def test_few_images_of_many_kinds_are_split_too():
    images = image_table(4, per_group=1).assign(classes=["1", "2", "3", "4"])
    assert sorted(assign_folds(images, 4, seed=0)) == [0, 1, 2, 3]


def test_the_only_group_of_a_class_always_trains():
    images = image_table(24)
    images.loc[images["group"] == 5, "classes"] = "7"
    images.loc[images["ImageId"] == "3.png", "classes"] = "1 8"  # of group 1, as two others
    folds = assign_folds(images, 4, seed=0)
    alone = images["group"].isin([1, 5])
    assert (folds[alone] == ALWAYS_TRAINS).all()
    assert sorted(set(folds[~alone])) == [0, 1, 2, 3]


def test_fewer_groups_than_folds_is_refused():
    with pytest.raises(DefectmillError, match=re.escape("4 folds need as many groups; there are 3")):
        assign_folds(image_table(3), 4, seed=0)
