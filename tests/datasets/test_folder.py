"""Images and masks in folders, drawn by hand: pairs, colours, grey masks, rims, and MVTec's layout."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defectmill.dataset_info import DatasetInfo, builtin_datasets
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.folder import (
    APPLIED,
    EMPTY,
    FRAMED,
    IGNORED,
    REFUSED,
    UNMASKED,
    _name_uniquely,
    pair_files,
    read_raw,
)
from defectmill.formats.masks import OFF, RIMS
from defectmill.formats.shapes import FormatError
from defectmill.images import write_image
from fake_raw import SHAPE, add_pair, colour_mask, draw_rims

TILE = builtin_datasets()["mvtec-tile"]


@pytest.mark.parametrize(("lost", "lacks"), [("masks", "mask"), ("images", "image")])
def test_orphan_is_named(tmp_path, lost, lacks):
    for number in (0, 1):
        add_pair(tmp_path, f"{number}.png", colour_mask(), number)
    (tmp_path / lost / "1.png").unlink()
    with pytest.raises(DatasetError, match=rf"1\.png: has no {lacks}$"):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


def test_orphans_are_counted_and_the_first_five_named(tmp_path):
    for number in range(8):
        add_pair(tmp_path, f"{number}.png", colour_mask(), number)
    for number in range(1, 8):
        (tmp_path / "masks" / f"{number}.png").unlink()
    message = r"1\.png: has no mask; nor have 6 others \(2\.png, 3\.png, 4\.png, 5\.png, \.\.\.\)"
    with pytest.raises(DatasetError, match=message):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((48, 72), ", at 2 times its scale: resize it by the nearest pixel"),
        ((12, 18), ", at 0.5 times"),
        ((36, 24), r", \(height, width\): is it the mask of another one"),
    ],
)
def test_mask_of_another_size_is_refused_with_its_scale(tmp_path, shape, hint):
    add_pair(tmp_path, "a.png", np.eye(*shape, dtype=np.uint8) * 3)
    with pytest.raises(DatasetError, match=re.escape(f"{shape} for an image of (24, 36)") + hint):
        list(read_raw(tmp_path, TILE))


def test_pairs_go_by_stem_and_not_by_order(tmp_path):
    add_pair(tmp_path, "b.jpg", colour_mask(), 0, "b.png")
    add_pair(tmp_path, "a.png", colour_mask(), 1, "a.bmp")
    pairs = list(pair_files(tmp_path / "images", tmp_path / "masks"))
    assert [(i.name, m.name) for i, m in pairs] == [("a.png", "a.bmp"), ("b.jpg", "b.png")]


def test_two_files_of_one_stem_are_refused(tmp_path):
    add_pair(tmp_path, "a.png", colour_mask())
    add_pair(tmp_path, "a.jpg", None)
    with pytest.raises(DatasetError, match=r"a\.png: a\.jpg has the same stem"):
        list(pair_files(tmp_path / "images", tmp_path / "masks"))


def test_another_palette_is_refused_with_its_share(tmp_path):
    mask = np.zeros((*SHAPE, 3), np.uint8)
    mask[: SHAPE[0] // 2] = (17, 99, 3)
    add_pair(tmp_path, "a.png", mask)
    with pytest.raises(
        FormatError, match=r"mvtec-tile: 1 masks .*\(17, 99, 3\).*: the classes are of the colours"
    ):
        list(read_raw(tmp_path, TILE))


def test_colour_folders_give_classes_and_count_what_is_off_the_palette(tmp_path):
    mask = colour_mask((0, 255, 255))
    mask[10, 10] = (0, 130, 130)
    add_pair(tmp_path, "rough_1.png", mask)
    (picture,) = read_raw(tmp_path, TILE)
    assert picture.masks.sum(axis=(0, 1)).tolist() == [0, 0, 0, 0, 7]
    assert picture.issues == {**REFUSED, UNMASKED: 0, OFF: 1, RIMS: 0}


def test_flexunet_folders_keep_their_test_part_and_train_on_the_rest(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        add_pair(tmp_path / part, f"{number}.png", colour_mask(), number)
    parts = {p.image_id: p.part for p in read_raw(tmp_path, TILE)}
    assert parts == {"0.png": "train", "1.png": "train", "2.png": "test"}


def test_a_folder_of_no_known_layout_says_what_it_holds(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError, match=r"neither images and masks.*holds pictures"):
        list(read_raw(tmp_path, TILE))


@pytest.mark.parametrize(("dataset", "areas"), [("aluminum", [4, 0, 704]), ("mvtec-tile", [140, 80, 600])])
def test_rims_are_undone_and_counted_where_the_dataset_says_so(tmp_path, dataset, areas):
    info = builtin_datasets()[dataset]
    mask = (draw_rims()[..., None] * np.array(info.colours[:3], np.uint8)).sum(axis=2).astype(np.uint8)
    add_pair(tmp_path, "a.png", mask)
    write_image(tmp_path / "images/a.png", mask[..., 0])
    (picture,) = read_raw(tmp_path, info)
    assert picture.masks.sum(axis=(0, 1)).tolist()[:3] == areas
    assert picture.issues[RIMS] == 216 * info.undo_rims


@pytest.mark.parametrize("inside", ["tile", "."])
def test_mvtec_as_it_is_shipped(tmp_path, inside):
    tile = tmp_path / inside
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
    pictures = {p.image_id: p for p in read_raw(tmp_path, TILE)}
    defects = [f"{name}_000.png" for name in TILE.class_names]
    assert list(pictures) == [*defects, "good_test_000.png", "good_train_000.png"]
    for channel, name in enumerate(defects):
        assert pictures[name].masks.sum(axis=(0, 1)).tolist() == [6 * (c == channel) for c in range(5)]
        assert pictures[name].issues == {**REFUSED, "grey mask pixels, binarised at 128": 1, EMPTY: 0}
        assert pictures[name].grey == {channel + 1: (7, 6)}
    assert pictures["good_train_000.png"].masks.shape == (*SHAPE, 5)
    assert not pictures["good_train_000.png"].masks.any()


def test_mvtec_of_another_object_is_refused(tmp_path):
    (tmp_path / "ground_truth" / "scratch").mkdir(parents=True)
    with pytest.raises(DatasetError, match="scratch: not a class; there are: crack, glue_strip"):
        list(read_raw(tmp_path, TILE))


def test_distorted_copies_of_one_tile_are_one_group():
    names = ["barrdistorted_1001_0.3_0.3_gray_stroke_12.png", "gray_stroke_12.png", "gray_stroke_1.png"]
    names += ["crack_12.png", "good_train_012.png", "good_test_012.png"]
    parts = [re.search(TILE.group_pattern, name)[1] for name in names]
    assert parts[0] == parts[1]
    assert len(set(parts)) == 5


def test_images_of_one_name_in_two_parts_get_their_folders_before_it(tmp_path):
    for number, part in enumerate(("train", "test")):
        add_pair(tmp_path / part, "0.png", colour_mask(), number)
    add_pair(tmp_path / "train", "1.png", colour_mask(), 3)
    ids = [picture.image_id for picture in read_raw(tmp_path, TILE)]
    assert sorted(ids) == ["1.png", "test_images_0.png", "train_images_0.png"]


@pytest.mark.parametrize(("way_out", "masks"), [("clean", 0), ("left out", None)])
def test_an_image_without_a_mask_is_what_the_info_says(tmp_path, way_out, masks):
    add_pair(tmp_path, "0.png", colour_mask())
    add_pair(tmp_path, "1.png", None, 1)
    with pytest.raises(DatasetError, match=r'1\.png: has no mask; .*"without_mask": "clean" or "left out"'):
        list(read_raw(tmp_path, TILE))
    _, other = read_raw(tmp_path, TILE.model_copy(update={"without_mask": way_out}))
    assert other.image_id == "1.png"
    assert (other.masks if masks is None else int(other.masks.sum())) == masks


def test_instances_in_files_of_their_own_become_one_mask(tmp_path):
    info = TILE.model_copy(update={"classes": TILE.classes[:1]})
    second = np.zeros(SHAPE, np.uint8)
    second[20, 1:5] = 255
    add_pair(tmp_path, "0.png", colour_mask((255, 255, 255)), 0, "0_1.png")
    add_pair(tmp_path, "0.png", second, 0, "0_2.png")
    (picture,) = read_raw(tmp_path, info)
    assert picture.masks.sum() == 6 + 4


def test_files_of_one_class_each_go_to_its_channel_and_unknown_ones_are_refused(tmp_path):
    add_pair(tmp_path, "0.png", colour_mask((255, 255, 255)), 0, "0_oil.png")
    add_pair(tmp_path, "0.png", colour_mask((255, 255, 255)), 0, "0_rough_mask.png")
    (picture,) = read_raw(tmp_path, TILE)
    assert picture.masks.sum(axis=(0, 1)).tolist() == [0, 0, 0, 6, 6]
    add_pair(tmp_path, "0.png", colour_mask((255, 255, 255)), 0, "0_rust.png")
    with pytest.raises(DatasetError, match="masks of 'rust', which is no class; there are"):
        list(read_raw(tmp_path, TILE))


@pytest.mark.parametrize("upright", [True, False])
def test_a_mask_finds_the_pixels_that_it_was_drawn_on(tmp_path, upright):
    add_pair(tmp_path, "0.png", colour_mask())
    pixels = np.arange(SHAPE[0] * SHAPE[1] * 3, dtype=np.uint32).reshape(*SHAPE, 3).astype(np.uint8)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "images" / "0.png", exif=tag.tobytes())
    if upright:
        write_image(tmp_path / "masks" / "0.png", np.rot90(colour_mask(), -1).copy())
    (picture,) = read_raw(tmp_path, TILE)
    if upright:
        assert picture.image.tolist() == np.rot90(pixels, -1).tolist()
        assert picture.issues[APPLIED] == 1
    else:
        assert picture.image == tmp_path / "images" / "0.png"
        assert picture.issues[IGNORED] == 1
    assert picture.masks[..., 1].sum() == 6


def test_a_mask_that_may_be_inverted_is_counted(tmp_path):
    info = TILE.model_copy(update={"classes": TILE.classes[:1]})
    for number, mask in enumerate([np.zeros(SHAPE, np.uint8)] * 3):
        mask = mask.copy()
        mask[2:5, 3:9] = 255
        if not number:
            mask[:, 4:] = 255  # to all edges but the left one
        add_pair(tmp_path, f"{number}.png", mask, number)
    assert {p.image_id: p.issues[FRAMED] for p in read_raw(tmp_path, info)} == {
        "0.png": 1,
        "1.png": 0,
        "2.png": 0,
    }


def test_test_images_without_any_mask_are_left_out_and_other_files_told(tmp_path):
    for number in range(3):
        add_pair(tmp_path / "train", f"{number}.png", colour_mask((255, 0, 0)), number)
    for name in ("test/images/8.png", "old/9.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        write_image(tmp_path / name, np.zeros(SHAPE, np.uint8))
    pictures = {p.image_id: p for p in read_raw(tmp_path, TILE)}
    assert [image_id for image_id, p in pictures.items() if p.masks is None] == ["8.png"]
    assert {p.part for p in pictures.values()} == {""}
    assert pictures["0.png"].note.endswith("; not read: 1 image files (old/9.png)")


def test_images_and_no_mask_of_a_kind_that_is_read_are_refused(tmp_path):
    add_pair(tmp_path, "a.png", colour_mask())
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "a.npy")
    with pytest.raises(DatasetError, match=r"holds 1 images, and no mask that can be read; read are \.jpg"):
        list(read_raw(tmp_path, TILE))


def test_a_folder_of_images_beside_ground_truth_is_not_mvtecs(tmp_path):
    info = TILE.model_copy(update={"classes": TILE.classes[:1]})
    add_pair(tmp_path, "a.png", np.zeros(SHAPE, np.uint8))
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:9] = 255
    (tmp_path / "masks").rename(tmp_path / "old")
    (tmp_path / "ground_truth" / info.class_names[0]).mkdir(parents=True)
    write_image(tmp_path / "ground_truth" / info.class_names[0] / "a.png", mask)
    (picture,) = read_raw(tmp_path, info)
    assert picture.masks.sum() == 18


def test_ids_of_images_in_a_folder_at_the_top_of_a_disk_name_files():
    paths = [Path("/raw/a.png"), Path("/raw/x/A.png"), Path("/raw/b.png")]
    assert [*_name_uniquely(paths).values()] == ["raw_a.png", "raw_x_A.png", "b.png"]


@pytest.fixture
def boxes(tmp_path):
    """Labels of YOLO, a class, for two images of one name; the one of the part test has no defect."""
    for part, text in (("train", "0 0.125 0.25 0.5 0.25 0.5 0.75 0.125 0.75\n"), ("test", "")):
        for kind in ("images", "labels"):
            (tmp_path / kind / part).mkdir(parents=True)
        write_image(tmp_path / "images" / part / "a.png", np.zeros((4, 8), np.uint8))
        (tmp_path / "labels" / part / "a.txt").write_text(text)
    (tmp_path / "data.yaml").write_text("names: [dent]\n")
    return tmp_path


def described(form: str, *names: str) -> DatasetInfo:
    kinds = [{"id": n, "name": name, "colour": (n, 0, 0)} for n, name in enumerate(names, 1)]
    return DatasetInfo.model_validate({"name": "x", "title": "X", "classes": kinds, "format": form})


def test_labels_of_a_tool_go_to_the_channels_of_their_names_and_keep_their_parts(boxes):
    test, train = sorted(read_raw(boxes, described("yolo", "scratch", "dent")), key=lambda one: one.image_id)
    assert (test.image_id, test.part) == ("images_test_a.png", "test")
    assert (train.image_id, train.part) == ("images_train_a.png", "train")
    assert train.masks.sum(axis=(0, 1)).tolist() == [0, 6]
    assert train.masks[1:3, 1:4, 1].all()
    assert not test.masks.any()
    assert train.note.startswith("annotated in the format yolo")


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("yolo", r"a\.png: has a 'dent', which is no class; there are \['hole'\]"),
        ("coco", r"is not annotated in the format coco \(\"format\" is in the info\.json of x\)"),
        ("yolo9", r"no format 'yolo9'; there are: coco, yolo, .* \(\"format\" is in the info\.json of x\)"),
    ],
)
def test_labels_that_are_not_as_described_are_refused(boxes, form, told):
    with pytest.raises(DatasetError, match=told):
        list(read_raw(boxes, described(form, "hole")))
