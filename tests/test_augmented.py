"""Offline augmentation: copies move with their masks and stay with their picture."""

import numpy as np
import pytest

from defectmill.datasets.augmented import WARPS, write_augmented
from defectmill.datasets.competition import DatasetError
from defectmill.folds import assign_folds
from defectmill.groups import find_groups
from defectmill.image_table import make_image_table
from defectmill.images import list_images, read_image
from defectmill.labels import draw_masks, read_labels
from defectmill.shots import read_shots
from fake_competition import make_card, write_fake_competition


@pytest.fixture
def source(root, monkeypatch):
    monkeypatch.setattr("defectmill.datasets.augmented.ROOT", root)
    write_fake_competition(root / "input" / "fake")
    return root / "input" / "fake"


def test_every_picture_has_a_copy_of_each_move_beside_it(source):
    folder = write_augmented("fake", ["horizontal-flip", "brightening"])
    assert folder.name == "fake-augmented"
    ids = list_images(source / "train_images")
    wanted = {*ids, *(f"{m}__{i}.png" for m in ("horizontal-flip", "brightening") for i in ids)}
    assert set(list_images(folder / "train_images")) == wanted
    for name in ("sample_submission.csv", "solution.csv"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    labels = read_labels(folder / "train.csv", wanted, 2)
    for image_id in ids:
        shape = read_image(source / "train_images" / image_id).shape[:2]
        flipped = f"horizontal-flip__{image_id}.png"
        masks, mirrored = (draw_masks(labels, i, shape, 2) for i in (image_id, flipped))
        np.testing.assert_array_equal(mirrored, masks[:, ::-1])
        pictures = [read_image(folder / "train_images" / i) for i in (image_id, flipped)]
        np.testing.assert_array_equal(pictures[1], pictures[0][:, ::-1])


def test_no_copy_leaves_the_fold_of_its_picture(source):
    folder = write_augmented("fake", list(WARPS)) / "train_images"
    labels = read_labels(folder.parent / "train.csv", list_images(folder), 2)
    images = make_image_table(folder, labels)
    images["group"] = find_groups(read_shots(folder, images["ImageId"].tolist()), make_card())
    images["fold"] = assign_folds(images, 3, seed=0)
    parents = images["ImageId"].str.replace(r"^[a-z-]+__(.*)\.png$", r"\1", regex=True)
    assert parents.nunique() == 12
    assert len(images) == 12 * (1 + len(WARPS))
    assert (images.groupby(parents)["fold"].nunique() == 1).all()


def test_the_same_seed_writes_the_same_bytes(source):
    def content():
        folder = write_augmented("fake", ["elastic", "rotation"])
        return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert content() == content()


def test_unknown_move_and_unprepared_dataset_are_named(source):
    with pytest.raises(DatasetError, match="no move 'elastik'; there are: horizontal-flip"):
        write_augmented("fake", ["elastik"])
    with pytest.raises(DatasetError, match="make input DATASET=sample comes first"):
        write_augmented("sample", ["elastic"])
