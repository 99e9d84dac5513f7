"""Offline augmentation: copies are transformed with their masks and stay with their original."""

import json

import numpy as np
import pytest

from defectmill.curation.duplicates import find_groups, scan_images
from defectmill.curation.folds import assign_folds
from defectmill.files import DefectmillError
from defectmill.images import list_images, original_of, read_image
from defectmill.labels import draw_masks, make_image_table, read_labels
from defectmill.training.offline_augment import TRANSFORMS, write_augmented
from fake_competition import make_info, write_fake_competition


@pytest.fixture
def source(root):
    write_fake_competition(root / "input" / "fake")
    return root / "input" / "fake"


def test_every_image_has_a_copy_of_each_transform_beside_it(source):
    partial = json.loads((source / "dataset.json").read_text()) | {"partial": True}
    (source / "dataset.json").write_text(json.dumps(partial))
    folder = write_augmented("fake", ["horizontal-flip", "brightening"])
    assert folder.name == "fake-augmented"
    ids = list_images(source / "train_images")
    wanted = {*ids, *(f"{t}__{i}.png" for t in ("horizontal-flip", "brightening") for i in ids)}
    assert set(list_images(folder / "train_images")) == wanted
    for name in ("sample_submission.csv", "solution.csv"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    info = json.loads((folder / "dataset.json").read_text())
    assert (info["name"], info["partial"]) == ("fake-augmented", False)
    assert "2 copies of each training image (horizontal-flip, brightening)" in info["notes"][-1]
    labels = read_labels(folder / "train.csv", wanted, 2)
    for image_id in ids:
        shape = read_image(source / "train_images" / image_id).shape[:2]
        flipped = f"horizontal-flip__{image_id}.png"
        masks, mirrored = (draw_masks(labels, i, shape, 2) for i in (image_id, flipped))
        np.testing.assert_array_equal(mirrored, masks[:, ::-1])
        images = [read_image(folder / "train_images" / i) for i in (image_id, flipped)]
        np.testing.assert_array_equal(images[1], images[0][:, ::-1])


def test_no_copy_leaves_the_fold_of_its_original(source):
    folder = write_augmented("fake") / "train_images"
    ids = list_images(folder)
    scan = scan_images(folder, ids)
    images = make_image_table(read_labels(folder.parent / "train.csv", ids, 2), scan.table)
    images["group"] = find_groups(scan, make_info())
    images["fold"] = assign_folds(images, 3, seed=0)
    originals = images["ImageId"].map(lambda image_id: original_of(image_id) or image_id)
    assert originals.nunique() == 12
    assert len(images) == 12 * (1 + len(TRANSFORMS))
    assert (images.groupby(originals)["fold"].nunique() == 1).all()


def test_the_same_seed_writes_the_same_bytes(source):
    def content():
        folder = write_augmented("fake", ["elastic", "rotation"])
        return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert content() == content()


def test_unknown_transform_and_unprepared_dataset_are_named(source):
    with pytest.raises(DefectmillError, match="no transform 'elastik'; there are: horizontal-flip"):
        write_augmented("fake", ["elastik"])
    with pytest.raises(DefectmillError, match="make input DATASET=sample comes first"):
        write_augmented("sample", ["elastic"])
    assert [p.name for p in source.parent.iterdir()] == ["fake"]
