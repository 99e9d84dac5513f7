"""Adapters of pictures and masks in pairs, on raw folders made by hand."""

import re

import numpy as np
import pytest
from scipy.io import savemat

from defectmill.catalog import CARDS
from defectmill.datasets import aluminum, colour_masks, crack, mvtec_tile
from defectmill.datasets.__main__ import prepare
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.pairs import (
    EMPTY,
    OFF,
    REFUSED,
    pair_files,
    read_colour_pair,
    read_grey_pair,
)
from defectmill.images import list_images, write_image
from defectmill.labels import read_labels

SHAPE = (24, 36)
TILE = CARDS["mvtec-tile"]


def add(folder, name: str, mask: np.ndarray | None, number: int = 0, mask_name: str = "") -> None:
    """Write images/<name> with a texture of its own and masks/<name>."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(60, 200, SHAPE, np.uint8)
    write_image(folder / "images" / name, noise)
    if mask is not None:
        write_image(folder / "masks" / (mask_name or name), mask)


def colour_mask(colour=(255, 0, 0)) -> np.ndarray:
    mask = np.zeros((*SHAPE, 3), np.uint8)
    mask[2:5, 7:9] = colour
    return mask


@pytest.mark.parametrize(("lost", "lacks"), [("masks", "mask"), ("images", "picture")])
def test_orphan_is_named(tmp_path, lost, lacks):
    for number in (0, 1):
        add(tmp_path, f"{number}.png", colour_mask(), number)
    (tmp_path / lost / "1.png").unlink()
    with pytest.raises(DatasetError, match=rf"1\.png: has no {lacks}"):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


def test_orphans_are_counted_and_the_first_five_named(tmp_path):
    for number in range(8):
        add(tmp_path, f"{number}.png", colour_mask(), number)
    for number in range(1, 8):
        (tmp_path / "masks" / f"{number}.png").unlink()
    said = r"1\.png: has no mask; nor have 6 others \(2\.png, 3\.png, 4\.png, 5\.png, \.\.\.\)"
    with pytest.raises(DatasetError, match=said):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((48, 72), r"\(24, 36\), at 2 times its scale: resize it"), ((12, 18), "at 0.5 times"),
     ((36, 24), r"\(36, 24\) for a picture of \(24, 36\)$")],
)  # fmt: skip
def test_mask_of_another_size_is_refused_with_its_scale(tmp_path, shape, said):
    add(tmp_path, "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(DatasetError, match=said):
        read_grey_pair(tmp_path / "images/a.png", tmp_path / "masks/a.png", 0, 1)


def test_pairs_go_by_stem_and_not_by_order(tmp_path):
    add(tmp_path, "b.jpg", colour_mask(), 0, "b.png")
    add(tmp_path, "a.png", colour_mask(), 1, "a.bmp")
    pairs = list(pair_files(tmp_path / "images", tmp_path / "masks"))
    assert [(i.name, m.name) for i, m in pairs] == [("a.png", "a.bmp"), ("b.jpg", "b.png")]


def test_two_files_of_one_stem_are_refused(tmp_path):
    add(tmp_path, "a.png", colour_mask())
    add(tmp_path, "a.jpg", None)
    with pytest.raises(DatasetError, match=r"a\.png: a\.jpg has the same stem"):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


def test_another_palette_is_refused_with_its_share(tmp_path):
    mask = np.zeros((*SHAPE, 3), np.uint8)
    mask[: SHAPE[0] // 2] = (17, 99, 3)
    add(tmp_path, "a.png", mask)
    with pytest.raises(DatasetError, match=r"a\.png: 50\.0% of its pixels have a colour"):
        read_colour_pair(tmp_path / "images/a.png", tmp_path / "masks/a.png", TILE.colours)


def test_colour_folders_give_classes_and_count_what_is_off(tmp_path):
    mask = colour_mask((0, 255, 255))
    mask[10, 10] = (0, 130, 130)
    add(tmp_path, "rough_1.png", mask)
    (picture,) = colour_masks.read_raw(tmp_path, TILE)
    assert picture.masks.sum(axis=(0, 1)).tolist() == [0, 0, 0, 0, 7]
    assert picture.odd == {**REFUSED, OFF: 1}


def test_flexunet_folders_keep_their_test_part_and_train_on_the_rest(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        add(tmp_path / part, f"{number}.png", colour_mask(), number)
    parts = {p.image_id: p.part for p in colour_masks.read_raw(tmp_path, TILE)}
    assert parts == {"0.png": "train", "1.png": "train", "2.png": "test"}


def test_a_folder_of_neither_layout_says_what_it_holds(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError, match=r"neither images and masks.*holds pictures"):
        list(colour_masks.read_raw(tmp_path, TILE))


def test_aluminum_is_read_by_its_colours(root, tmp_path):
    raw = tmp_path / "raw"
    for number, colour in enumerate(CARDS["aluminum"].colours * 2):
        add(raw, f"{number}.png", colour_mask(colour), number)
    folder = prepare("aluminum", str(raw))
    labels = read_labels(folder / "train.csv", n_classes=6)
    found = labels[labels["hasMask"]]
    assert (found["ImageId"].str[:-4].astype(int) % 6 + 1 == found["ClassId"]).all()
    assert (found["EncodedPixels"] == "171 3 195 3").all()  # columns 7 and 8 of 24 rows


def test_rings_of_interpolated_class_numbers_are_undone():
    numbers = np.zeros((40, 60), np.uint8)
    numbers[10:30, 20:50] = 3
    numbers[8:10, 18:52] = numbers[30:32, 18:52] = 1  # what resizing leaves between 0 and 3
    numbers[10:30, 18:20] = numbers[10:30, 50:52] = 2
    numbers[36, 5:9] = 1  # thin, but alone: a scratch
    masks = (numbers[..., None] == [1, 2, 3]).astype(np.uint8)
    mended, n = aluminum.undo_rings(masks)
    assert n == 2 * 2 * 34 + 2 * 2 * 20
    assert mended.sum(axis=(0, 1)).tolist()[:2] == [4, 0]
    assert mended[36, 5:9, 0].all()
    assert (mended[10:30, 20:50, 2] == 1).all()
    assert 600 < mended[..., 2].sum() < 800
    clean = mended.copy()
    np.testing.assert_array_equal(aluminum.undo_rings(clean)[0], clean)


def test_mvtec_as_it_is_shipped(tmp_path):
    tile = tmp_path / "tile"
    for name in TILE.class_names:
        for folder in (tile / "test" / name, tile / "ground_truth" / name):
            folder.mkdir(parents=True)
        grey = colour_mask((255, 255, 255))
        grey[0, 0] = 100
        write_image(tile / "test" / name / "000.png", colour_mask((9, 9, 9)))
        write_image(tile / "ground_truth" / name / "000_mask.png", grey)
    for part in ("test", "train"):
        (tile / part / "good").mkdir(parents=True)
        write_image(tile / part / "good" / "000.png", colour_mask((9, 9, 9)))
    pictures = {p.image_id: p for p in mvtec_tile.read_raw(tmp_path, TILE)}
    assert list(pictures) == [*(f"{n}_000.png" for n in TILE.class_names), "good_test_000.png",
                              "good_train_000.png"]  # fmt: skip
    for channel, name in enumerate(TILE.class_names):
        picture = pictures[f"{name}_000.png"]
        assert picture.masks.sum(axis=(0, 1)).tolist() == [6 * (c == channel) for c in range(5)]
        assert picture.odd == {**REFUSED, "grey mask pixels, binarised at 128": 1, EMPTY: 0}
        assert picture.grey == {channel + 1: (7, 6)}
    assert not pictures["good_train_000.png"].masks.any()


def test_mvtec_of_another_object_is_refused(tmp_path):
    (tmp_path / "ground_truth" / "scratch").mkdir(parents=True)
    with pytest.raises(DatasetError, match="scratch: not a class; there are: crack, glue_strip"):
        list(mvtec_tile.read_raw(tmp_path, TILE))


@pytest.fixture
def crackforest(tmp_path):
    folder = tmp_path / "forest"
    for part in ("image", "groundTruth"):
        (folder / part).mkdir(parents=True)
    for number in (1, 2, 201):
        noise = np.random.default_rng(number).integers(60, 200, SHAPE, np.uint8)
        write_image(folder / "image" / f"{number:03}.jpg", noise)
    codes = np.ones(SHAPE, np.uint8)
    codes[3, 4:7], codes[9:12, 1], codes[20, 20] = 2, 3, 4
    for number in (1, 2):
        truth = np.zeros((1, 1), [("Segmentation", "O"), ("Boundaries", "O")])
        truth[0, 0] = (codes, codes)
        savemat(folder / "groundTruth" / f"{number:03}.mat", {"groundTruth": truth})
    return folder


def test_of_crackforest_only_code_2_is_crack(crackforest):
    first, second, third = crack.read_raw(crackforest, CARDS["crack"])
    assert np.argwhere(first.masks[:, :, 0]).tolist() == [[3, 4], [3, 5], [3, 6]]
    codes = {"pixels of code 3, no crack": 3, "pixels of code 4, no crack": 1}
    assert first.odd == {**REFUSED, **codes, EMPTY: 0}
    assert second.masks.any()
    assert (third.image_id, third.masks) == ("201.jpg", None)


@pytest.mark.parametrize("content", [b"", b"x" * 200])
def test_damaged_mat_file_is_named(crackforest, content):
    (crackforest / "groundTruth" / "002.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"002\.mat: not a CrackForest ground truth"):
        list(crack.read_raw(crackforest, CARDS["crack"]))


def test_ground_truth_without_a_picture_is_named(crackforest):
    (crackforest / "image" / "002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"002\.mat: has no picture"):
        list(crack.read_raw(crackforest, CARDS["crack"]))


def test_crack_sources_go_together_and_what_has_no_label_is_told(root, tmp_path, crackforest):
    other = tmp_path / "five hundred"
    grey = np.zeros(SHAPE, np.uint8)
    grey[2, 2:6] = 255
    for number in range(10):
        add(other, f"20160222_08110{number}_1_721.jpg", grey, 50 + number,
            f"20160222_08110{number}_1_721.png")  # fmt: skip
    folder = prepare("crack", f"{crackforest}:{other}")
    ids = {i for part in ("train", "test") for i in list_images(folder / f"{part}_images")}
    assert len(ids) == 12
    assert {"001.jpg", "002.jpg"} < ids
    text = (folder / "dataset.json").read_text()
    assert "without labels, left out: 1, in 1 pictures (201.jpg)" in text


def test_missing_second_source_is_named(root, crackforest):
    with pytest.raises(DatasetError, match=re.escape("/no/such: no such folder")):
        prepare("crack", f"{crackforest}:/no/such")


def test_crops_of_one_photograph_are_one_group():
    pattern = CARDS["crack"].group_pattern
    names = ("20160222_081102_1281_721.jpg", "20160222_081102_1921_1.jpg", "001.jpg")
    found = [re.search(pattern, name) for name in names]
    assert found[0][1] == found[1][1]
    assert found[2] is None
    others = ("IMG_2930_1297_969.jpg", "IMG_2930_1945_969.jpg", "IMG_2931_1_1.jpg")
    parts = [re.search(pattern, name)[1] for name in others]
    assert parts[0] == parts[1] != parts[2]


def test_distorted_copies_of_one_tile_are_one_group():
    names = [
        "barrdistorted_1001_0.3_0.3_gray_stroke_12.png", "gray_stroke_12.png",
        "gray_stroke_1.png", "crack_12.png", "good_train_012.png", "good_test_012.png",
    ]  # fmt: skip
    parts = [re.search(TILE.group_pattern, name)[1] for name in names]
    assert parts[0] == parts[1]
    assert len(set(parts)) == 5


def test_own_folder_of_colour_masks_needs_only_a_card(root, tmp_path):
    raw, folder = tmp_path / "raw", root / "input" / "mine"
    for number in range(10):
        add(raw, f"{number}.png", colour_mask((255, 0, 0)), number)
    folder.mkdir(parents=True)
    card = TILE.model_copy(update={"name": "mine", "group_pattern": ""})
    (folder / "card.json").write_text(card.model_dump_json())
    for _ in range(2):
        prepare("mine", str(raw))
        labels = read_labels(folder / "train.csv", n_classes=5)
        assert set(labels.loc[labels["hasMask"], "ClassId"]) == {2}
        assert (folder / "card.json").is_file()


def test_dataset_made_by_hand_is_never_written_over(root, tmp_path):
    raw, folder = tmp_path / "raw", root / "input" / "mine"
    add(raw, "a.png", colour_mask())
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(TILE.model_copy(update={"name": "mine"}).model_dump_json())
    (folder / "train.csv").write_text("days of work")
    with pytest.raises(DatasetError, match=r"mine was made by hand"):
        prepare("mine", str(raw))
    assert (folder / "train.csv").read_text() == "days of work"
