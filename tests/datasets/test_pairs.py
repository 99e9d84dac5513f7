"""Images and masks in the folders and under the names that people give them; the files are empty."""

import re
import unicodedata

import pytest

from defectmill.datasets.competition import DatasetError
from defectmill.datasets.pairs import find_pairs


def make(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder) -> dict[str, tuple]:
    """{image: (part, {class: masks})}, all relative to the folder."""
    return {
        str(pair.image.relative_to(folder)): (
            pair.part,
            {name: [str(p.relative_to(folder)) for p in paths] for name, paths in pair.masks.items()},
        )
        for pair in find_pairs(folder)
    }


@pytest.mark.parametrize(
    "mask",
    ["a.png", "a_mask.png", "a-gt.png", "a_seg.bmp", "mask_a.png", "a.label.png", "a_MASK.PNG", "a_lbl.png"],
)
def test_a_mask_is_named_like_its_image(tmp_path, mask):
    make(tmp_path, "images/a.jpg", "images/b.jpg", f"masks/{mask}", f"masks/{mask.replace('a', 'b', 1)}")
    if mask == "a_MASK.PNG" or mask.startswith("mask_"):
        (tmp_path / f"masks/{mask.replace('a', 'b', 1)}").rename(tmp_path / "masks/b_mask.png")
    assert found(tmp_path)["images/a.jpg"] == ("", {"": [f"masks/{mask}"]})


@pytest.mark.parametrize(("images", "masks"), [("Imgs", "GT"), ("image", "label"), ("photos", "annotations")])
def test_folders_have_other_names_and_cases(tmp_path, images, masks):
    make(tmp_path, f"{images}/a.png", f"{masks}/a.png", "notes/readme.png")
    assert found(tmp_path) == {f"{images}/a.png": ("", {"": [f"{masks}/a.png"]})}


def test_parts_may_stand_above_or_below_images_and_masks(tmp_path):
    above, below = tmp_path / "above", tmp_path / "below"
    for part in ("train", "val", "test"):
        make(above, f"{part}/images/{part}.png", f"{part}/masks/{part}.png")
        make(below, f"images/{part}/{part}.png", f"masks/{part}/{part}.png")
    parts = {"train.png": "train", "val.png": "train", "test.png": "test"}
    for folder in (above, below):
        assert {pair.image.name: pair.part for pair in find_pairs(folder)} == parts
        assert all(len(pair.masks[""]) == 1 for pair in find_pairs(folder))


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    make(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_mask.png")
    assert found(tmp_path) == {"a.jpg": ("", {"": ["a_mask.png"]}), "b.jpg": ("", {"": ["b_mask.png"]})}


def test_a_folder_for_each_image(tmp_path):
    make(tmp_path, "x1/images/x1.png", "x1/masks/p.png", "x2/images/x2.png", "x2/masks/x2.png")
    with pytest.raises(
        DatasetError, match=r"p\.png: has no image: a mask is named like its image.*called x1$"
    ):
        find_pairs(tmp_path)
    (tmp_path / "x1/masks/p.png").rename(tmp_path / "x1/masks/x1.png")
    assert sorted(found(tmp_path)) == ["x1/images/x1.png", "x2/images/x2.png"]


def test_a_file_for_each_class_by_folder_or_by_name(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    make(one, "images/a.png", "images/b.png", "masks/dent/a.png", "masks/oil spot/a.png", "masks/dent/b.png")
    make(
        other,
        "images/a.png",
        "images/b.png",
        "masks/a_dent.png",
        "masks/a_oil_spot.png",
        "masks/b_dent_mask.png",
    )
    assert found(one)["images/a.png"][1] == {
        "dent": ["masks/dent/a.png"],
        "oil spot": ["masks/oil spot/a.png"],
    }
    assert found(other) == {
        "images/a.png": ("", {"dent": ["masks/a_dent.png"], "oil_spot": ["masks/a_oil_spot.png"]}),
        "images/b.png": ("", {"dent": ["masks/b_dent_mask.png"]}),
    }


def test_a_file_for_each_instance(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png", "masks/a_0.png", "masks/a_1.png", "masks/b_0.png")
    assert found(tmp_path) == {
        "images/a.png": ("", {"": ["masks/a_0.png", "masks/a_1.png"]}),
        "images/b.png": ("", {"": ["masks/b_0.png"]}),
    }


def test_a_number_belongs_to_the_image_that_has_it_in_its_name(tmp_path):
    make(tmp_path, "images/p1.png", "images/p1_2.png", "masks/p1.png", "masks/p1_2.png")
    assert found(tmp_path)["images/p1_2.png"] == ("", {"": ["masks/p1_2.png"]})


def test_names_that_macos_decomposed_are_the_same(tmp_path):
    name = "Fl\u00e4che"
    image, mask = unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)
    make(tmp_path, f"images/{image}.png", f"masks/{mask}.png")
    ((pair),) = find_pairs(tmp_path)
    assert [path.name for path in pair.masks[""]] == [f"{mask}.png"]


def test_an_image_without_a_mask_has_none(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png", "masks/a.png")
    assert found(tmp_path)["images/b.png"] == ("", {})


def test_masks_without_an_image_are_counted_and_named(tmp_path):
    make(tmp_path, "images/a.png", "masks/a.png", "masks/b.png", "masks/c.png")
    with pytest.raises(DatasetError, match=r"b\.png: has no image; nor have 1 others \(c\.png\)"):
        find_pairs(tmp_path)


def test_two_masks_in_one_place_are_refused(tmp_path):
    make(tmp_path, "images/a.png", "masks/a.png", "masks/a.bmp")
    with pytest.raises(DatasetError, match=re.escape("a.png: a.bmp has the same stem")):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("img_{}", "mask_{}"),
        ("{}_image", "{}_mask"),
        ("{}_sat", "{}_mask"),
        ("IMG{}", "MASK{}"),
        ("{}", "{}mask"),
        ("part{}", "Part{}"),
        ("a_{}_leftImg8bit", "a_{}_gtFine_labelIds"),
    ],
)
def test_a_mask_has_its_word_in_place_of_that_of_its_image(tmp_path, image, mask):
    names = [
        f"{folder}/{stem.format(n)}.png"
        for n in (1, 12)
        for folder, stem in (("images", image), ("masks", mask))
    ]
    make(tmp_path, *names)
    assert found(tmp_path) == {names[0]: ("", {"": [names[1]]}), names[2]: ("", {"": [names[3]]})}


def test_a_mask_of_what_two_images_share_has_no_image(tmp_path):
    make(tmp_path, "images/img_1.png", "images/1_sat.png", "masks/mask_1.png")
    with pytest.raises(
        DatasetError, match=r'mask_1\.png: has no image: .*"mask" before or after it; those are called'
    ):
        find_pairs(tmp_path)


def test_images_and_masks_may_have_the_same_folders(tmp_path):
    make(
        tmp_path,
        "images/one/a.png",
        "masks/one/a.png",
        "images/two/a.png",
        "masks/two/a.png",
        "images/good/b.png",
    )
    assert found(tmp_path) == {
        "images/good/b.png": ("", {}),
        "images/one/a.png": ("", {"": ["masks/one/a.png"]}),
        "images/two/a.png": ("", {"": ["masks/two/a.png"]}),
    }
    make(tmp_path, "images/c.png")
    with pytest.raises(DatasetError, match=r"images/c\.png: lies beside folders of images; move it"):
        find_pairs(tmp_path)


def test_images_may_lie_beside_a_folder_of_masks(tmp_path):
    make(tmp_path, "a.png", "b.png", "masks/a.png", "masks/b.png")
    assert found(tmp_path)["b.png"] == ("", {"": ["masks/b.png"]})


def test_a_file_without_loss_beside_a_jpeg_is_its_mask(tmp_path):
    make(tmp_path, "a.jpg", "a.png", "b.JPG", "b.bmp", "c.png")
    assert found(tmp_path) == {
        "a.jpg": ("", {"": ["a.png"]}),
        "b.JPG": ("", {"": ["b.bmp"]}),
        "c.png": ("", {}),
    }


def test_a_file_is_no_folder_of_images(tmp_path):
    make(tmp_path, "a.zip")
    with pytest.raises(
        DatasetError, match=r"a\.zip: is a file, not a folder of images and masks: give the folder"
    ):
        find_pairs(tmp_path / "a.zip")


@pytest.mark.parametrize("home", ["test/images", "test"])
def test_a_test_part_may_have_images_alone(tmp_path, home):
    make(tmp_path, "train/images/a.png", "train/masks/a.png", f"{home}/b.png")
    assert found(tmp_path)[f"{home}/b.png"] == ("test", {})
