"""The competition folder that is written of pictures drawn by hand."""

import json
import re

import cv2
import numpy as np
import pytest

from defectmill.datasets.competition import DatasetError, Picture, write_competition
from defectmill.images import read_image
from defectmill.labels import split_image_class
from fake_competition import make_info

IMAGE, CLEAN = np.arange(28, dtype=np.uint8).reshape(4, 7), np.zeros((4, 7, 2), np.uint8)
DEFECT = np.pad(np.ones((1, 3, 1), np.uint8), ((1, 2), (2, 2), (0, 1)))  # of class 1


def test_issues_are_counted_and_named_in_the_notes(root):
    pictures = [Picture(f"{n}.png", IMAGE, DEFECT, "train", {"specks": n} if n else {}) for n in range(8)]
    write_competition(pictures, make_info("fake"), root / "input" / "fake")
    notes = json.loads((root / "input" / "fake" / "dataset.json").read_text())["notes"]
    assert notes == ["specks: 28, in 7 images (1.png, 2.png, 3.png, 4.png, 5.png, ...)"]


def test_issues_are_listed_by_image_with_those_that_were_not_found(root):
    pictures = [
        Picture("a.png", IMAGE, DEFECT, "train", {"specks, rubbed out": 3, "holes": 0}, {2: (9, 4)}),
        Picture("b.png", IMAGE, DEFECT, "train", {"specks, rubbed out": 0}, {2: (3, 2), 1: (5, 5)}),
        Picture("c.png", IMAGE, None),
    ]
    write_competition(pictures, make_info("fake"), root / "input" / "fake")
    assert (root / "input" / "fake" / "issues.csv").read_text().splitlines() == [
        "finding,ImageId,value",
        '"without labels, left out",c.png,1',
        '"specks, rubbed out",a.png,3',
        "holes,,0",
        '"grey mask of class 1, area at > 0 is 1.00 times that at == 255",,0',
        '"grey mask of class 2, area at > 0 is 2.00 times that at == 255",a.png,5',
        '"grey mask of class 2, area at > 0 is 2.00 times that at == 255",b.png,1',
    ]


def test_failure_half_way_leaves_the_older_folder_whole(root):
    folder = root / "input" / "fake"
    good = [Picture("a.png", IMAGE, DEFECT, "train"), Picture("b.png", IMAGE, CLEAN, "test")]
    write_competition(good, make_info(), folder)
    before = sorted(p.name for p in folder.rglob("*"))

    def failing():
        yield good[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_competition(failing(), make_info(), folder)
    assert sorted(p.name for p in folder.rglob("*")) == before
    write_competition(good, make_info(), folder)
    assert sorted(p.name for p in folder.rglob("*")) == before
    assert [p.name for p in folder.parent.iterdir()] == ["fake"]


def test_given_parts_and_drawn_images_are_kept(root):
    folder, masks = root / "input" / "fake", CLEAN.copy()
    masks[1, 2, 1] = 1
    pictures = [Picture("a_1.png", IMAGE, masks, "test"), Picture("b.png", IMAGE, masks, "train")]
    write_competition(pictures, make_info("fake"), folder)
    assert (folder / "train.csv").read_text().splitlines()[1:] == ["b.png_1,", "b.png_2,10 1"]
    assert (folder / "solution.csv").read_text().splitlines()[1:] == ["a_1.png_1,", "a_1.png_2,10 1"]
    np.testing.assert_array_equal(read_image(folder / "test_images/a_1.png")[:, :, 0], IMAGE)
    asked = (folder / "sample_submission.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in asked] == ["1 1", "1 1"]
    assert [split_image_class(line.split(",")[0])[1] for line in asked] == [1, 2]
    assert json.loads((folder / "dataset.json").read_text())["notes"] == []


def test_two_images_of_one_name_are_refused(root):
    picture = Picture("a.png", IMAGE, DEFECT, "train")
    with pytest.raises(DatasetError, match=r"two images are called a\.png"):
        write_competition([picture, picture], make_info(), root / "input" / "fake")
    assert not (root / "input" / "fake").exists()


def test_no_images_at_all_is_refused(root):
    with pytest.raises(DatasetError, match="fake: the raw folder holds no images"):
        write_competition([], make_info(), root / "input" / "fake")


def test_a_part_for_some_images_only_is_refused(root):
    pictures = [Picture("a.png", IMAGE, DEFECT, "train"), Picture("b.png", IMAGE, CLEAN)]
    with pytest.raises(DatasetError, match=r"b\.png has no part .* though other images have one"):
        write_competition(pictures, make_info(), root / "input" / "fake")


def test_a_dataset_without_one_defect_is_refused(root):
    pictures = [Picture(f"{n}.png", IMAGE, CLEAN) for n in range(3)]
    with pytest.raises(DatasetError, match="fake: none of 3 images has a defect"):
        write_competition(pictures, make_info("fake"), root / "input" / "fake")
    assert not (root / "input" / "fake").exists()


@pytest.mark.parametrize(("clean", "is_refused"), [(1, False), (0, True)])
def test_a_class_that_covers_nearly_everything_is_refused(root, clean, is_refused):
    full = np.zeros((4, 7, 2), np.uint8)
    full[..., 1] = 1
    pictures = [Picture(f"{n}.png", IMAGE, full, "train") for n in range(8)]
    pictures += [Picture("clean.png", IMAGE, CLEAN, "train")] * clean
    if not is_refused:
        write_competition(pictures, make_info("fake"), root / "input" / "fake")
        return
    message = "class 'bar 2' covers 100.0% of all pixels: is it the background, or are the masks inverted?"
    with pytest.raises(DatasetError, match=re.escape(message)):
        write_competition(pictures, make_info("fake"), root / "input" / "fake")


def test_images_of_12_bits_in_files_of_16_are_brought_to_8_by_one_depth(root, tmp_path):
    for name, brightest in (("dark", 1000), ("light", 4095)):
        image = np.zeros((4, 7), np.uint16)
        image[1, 2] = brightest
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    pictures = [
        Picture(f"{name}.png", tmp_path / f"{name}.png", DEFECT, "train") for name in ("dark", "light")
    ]
    folder = root / "input" / "fake"
    write_competition(pictures, make_info("fake"), folder)
    levels = [cv2.imread(str(folder / "train_images" / f"{n}.png"), -1).max() for n in ("dark", "light")]
    assert levels == [1000 >> 4, 255]
    info = json.loads((folder / "dataset.json").read_text())
    assert info["bits"] == 12
    assert info["notes"] == ["images of over 8 bits a channel, read as 12 bits: 2"]


def test_a_group_pattern_that_does_not_fit_is_told(root):
    info = make_info("fake").model_copy(update={"group_pattern": r"part(\d+)"})
    noise = [np.random.default_rng(n).integers(0, 256, (24, 36), np.uint8) for n in range(6)]
    masks = np.pad(DEFECT, ((0, 20), (0, 29), (0, 0)))
    pictures = [Picture(f"{'part' * (n > 0)}{n}.png", image, masks) for n, image in enumerate(noise)]
    write_competition(pictures, info, root / "input" / "fake")
    notes = json.loads((root / "input" / "fake" / "dataset.json").read_text())["notes"]
    assert notes[-1].endswith("; group_pattern fits 5 of 6 file names, not 0.png")


@pytest.mark.parametrize("image_id", ["../a.png", "/a.png", "a/b.png", "a\nb.png", "a\udce9.png"])
def test_an_image_id_that_leaves_the_folder_is_refused(root, image_id):
    pictures = [Picture(image_id, IMAGE, DEFECT, "train")]
    with pytest.raises(DatasetError, match="is no name of a file, or no text in UTF-8; rename it"):
        write_competition(pictures, make_info("fake"), root / "input" / "fake")
    assert not list((root / "input").rglob("*.png"))
