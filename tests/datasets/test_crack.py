"""Road cracks, on raw folders made by hand."""

import re

import numpy as np
import pytest
from scipy.io import savemat

from defectmill.dataset_info import builtin_datasets
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.crack import read_raw
from defectmill.datasets.folder import EMPTY, REFUSED
from defectmill.datasets.prepare import prepare
from defectmill.images import list_images, write_image
from fake_raw import SHAPE, add_pair

INFO = builtin_datasets()["crack"]


@pytest.fixture
def crackforest(tmp_path):
    folder, rng = tmp_path / "forest", np.random.default_rng(0)
    for part in ("image", "groundTruth"):
        (folder / part).mkdir(parents=True)
    for name in ("001.jpg", "002.jpg", "201.jpg"):
        write_image(folder / "image" / name, rng.integers(60, 200, SHAPE, np.uint8))
    codes = np.ones(SHAPE, np.uint8)
    codes[3, 4:7], codes[9:12, 1], codes[20, 20] = 2, 3, 4
    for number in (1, 2):
        truth = np.zeros((1, 1), [("Segmentation", "O"), ("Boundaries", "O")])
        truth[0, 0] = (codes, codes)
        savemat(folder / "groundTruth" / f"{number:03}.mat", {"groundTruth": truth})
    return folder


def test_of_crackforest_only_code_2_is_crack(crackforest):
    first, second, third = read_raw(crackforest, INFO)
    assert np.argwhere(first.masks[:, :, 0]).tolist() == [[3, 4], [3, 5], [3, 6]]
    codes = {"pixels of code 3, no crack": 3, "pixels of code 4, no crack": 1}
    assert first.issues == {**REFUSED, **codes, EMPTY: 0}
    assert second.masks.any()
    assert (third.image_id, third.masks) == ("201.jpg", None)


@pytest.mark.parametrize("content", [b"", b"x" * 200])
def test_damaged_mat_file_is_named(crackforest, content):
    (crackforest / "groundTruth" / "002.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"002\.mat: not a CrackForest ground truth"):
        list(read_raw(crackforest, INFO))


def test_ground_truth_of_another_size_is_named(crackforest):
    write_image(crackforest / "image" / "002.jpg", np.zeros(SHAPE[::-1], np.uint8))
    with pytest.raises(DatasetError, match=r"002\.mat: a mask of \(24, 36\) for an image of \(36, 24\)"):
        list(read_raw(crackforest, INFO))


def test_ground_truth_without_an_image_is_named(crackforest):
    (crackforest / "image" / "002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"002\.mat: has no image"):
        list(read_raw(crackforest, INFO))


def test_sources_go_together_and_what_has_no_label_is_noted(root, tmp_path, crackforest):
    other = tmp_path / "five hundred"
    grey = np.zeros(SHAPE, np.uint8)
    grey[2, 2:6] = 255
    for number in range(10):
        stem = f"20160222_08110{number}_1_721"
        add_pair(other, f"{stem}.jpg", grey, 50 + number, f"{stem}.png")
    folder = prepare("crack", f"{crackforest}:{other}")
    ids = {i for part in ("train", "test") for i in list_images(folder / f"{part}_images")}
    assert len(ids) == 12
    assert {"001.jpg", "002.jpg"} < ids
    text = (folder / "dataset.json").read_text()
    assert "of CrackForest's codes only 2 is crack" in text
    assert "without labels, left out: 1, in 1 images (201.jpg)" in text


def test_crops_of_one_photograph_are_one_group():
    names = ["20160222_081102_1281_721.jpg", "20160222_081102_1921_1.jpg"]
    names += ["IMG_2930_1297_969.jpg", "IMG_2930_1945_969.jpg", "IMG_2931_1_1.jpg"]
    parts = [re.search(INFO.group_pattern, name)[1] for name in names]
    assert parts == ["20160222_081102"] * 2 + ["IMG_2930"] * 2 + ["IMG_2931"]
    assert re.search(INFO.group_pattern, "001.jpg") is None
