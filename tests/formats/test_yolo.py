"""YOLO's segmentation labels in the layouts that tools write, drawn by hand."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from defectmill.dataset_info import DatasetInfo
from defectmill.formats.shapes import FAINT, NO_CLASS, OUTSIDE, SHORT, FormatError, polygons_to_mask
from defectmill.formats.yolo import CLEAN, UNLABELLED, UPRIGHT, find, write
from defectmill.images import write_image

SHAPE = (4, 8)
BOX = "0.125 0.25 0.5 0.25 0.5 0.75 0.125 0.75"  # three pixels wide, two high
KINDS = [{"id": 1, "name": "crack", "colour": (255, 0, 0)}, {"id": 2, "name": "no", "colour": (0, 255, 0)}]
INFO = DatasetInfo.model_validate({"name": "plate", "title": "Plate", "classes": KINDS})


def draw(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


BOX_MASK = draw("........", ".###....", ".###....", "........")


def add(root: Path, image: str, label: str | None = None, text: str = "") -> Path:
    """Write an image and, at its path, a label file."""
    (root / image).parent.mkdir(parents=True, exist_ok=True)
    write_image(root / image, np.zeros(SHAPE, np.uint8))
    if label is not None:
        (root / label).parent.mkdir(parents=True, exist_ok=True)
        (root / label).write_text(text, encoding="utf-8")
    return root


def read(raw: Path):
    source = find(raw)
    assert source is not None
    return list(source.read())


def refuse(raw: Path, message: str):
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        read(raw)
    assert "\n" not in str(caught.value)


def test_line_is_an_instance_and_coordinates_are_shares(tmp_path):
    lines = f"1 {BOX}\n\n0 0 0 0.25 0 0.25 0.25 0 0.25\n1 0.75 0 1 0 1 0.25 0.75 0.25 0.75 0\n"
    add(tmp_path, "images/a.png", "labels/a.txt", lines)
    source = find(tmp_path)
    assert (source.format, source.classes) == ("yolo", ("class 0", "class 1"))
    assert source.notes == ("no data.yaml and no classes.txt: the classes have no names",)
    (one,) = source.read()
    assert (one.image, one.shape, one.part) == (tmp_path / "images" / "a.png", SHAPE, "")
    np.testing.assert_array_equal(
        one.masks["class 1"], draw("......##", *[".###....", ".###....", "........"])
    )
    np.testing.assert_array_equal(one.masks["class 0"], draw("##......", *["........"] * 3))
    counts = {SHORT: 0, OUTSIDE: 0, FAINT: 0, NO_CLASS: 0, CLEAN: 0, UNLABELLED: 0, UPRIGHT: 0}
    assert one.issues == counts


@pytest.mark.parametrize(
    "layout", ["images/{0}/{1}.png labels/{0}/{1}.txt", "{0}/images/{1}.png {0}/labels/{1}.txt"]
)
def test_both_layouts_of_splits_are_parts(tmp_path, layout):
    for number, split in enumerate(("train", "val", "test")):
        image, label = layout.format(split, number).split()
        add(tmp_path, image, label, f"0 {BOX}")
    found = [(one.image.name, one.part) for one in read(tmp_path)]
    assert sorted(found) == [("0.png", "train"), ("1.png", "train"), ("2.png", "test")]
    assert all((one.masks["class 0"] == BOX_MASK).all() for one in read(tmp_path))


def test_images_come_sorted_and_a_split_alone_is_no_part(tmp_path):
    for name in ("c", "b/x", "a"):
        add(tmp_path, f"train/images/{name}.png", f"train/labels/{name}.txt", f"0 {BOX}")
    assert [(one.image.name, one.part) for one in read(tmp_path)] == [
        ("a.png", ""),
        ("x.png", ""),
        ("c.png", ""),
    ]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("names: [crack, no]\nnc: 2", ("crack", "no")),
        ("train: x\nnames:\n  0: crack\n  1: no", ("crack", "no")),
        ("names: {2: pit, 0: crack}", ("crack", "class 1", "pit")),
        ("names:\n- 0\n- 'pit: deep'\n", ("0", "pit: deep")),
        ("names: [_background_, crack]", ("crack",)),
        ("\ufeffnames: [pit, crack]\r\n", ("pit", "crack")),
    ],
)
def test_classes_are_named_by_data_yaml(tmp_path, text, classes):
    add(tmp_path, "images/a.png", "labels/a.txt", f"1 {BOX}")
    (tmp_path / "dataset.yaml").write_text(text)
    (tmp_path / "classes.txt").write_text("other\nnames\n")
    (tmp_path / "tracker.yaml").write_text("tracker: [1]")
    for raw in (tmp_path, tmp_path / "dataset.yaml"):
        source = find(raw)
        assert source.classes == classes
        assert source.notes == ("the classes are named by dataset.yaml",)


@pytest.mark.parametrize("path", ["classes.txt", "labels/classes.txt"])
def test_classes_are_named_by_classes_txt_else(tmp_path, path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"1 {BOX}")
    (tmp_path / path).write_bytes("Riß\r\nno \r\n\r\n".encode())
    assert find(tmp_path).classes == ("Riß", "no")


def test_image_without_label_file_is_clean_and_counted_one_with_an_empty_file_is_clean(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}")
    add(tmp_path, "images/b.png", "labels/b.txt", "\n")
    add(tmp_path, "images/c.png")
    _, b, c = read(tmp_path)
    assert (b.masks, b.issues[CLEAN]) == ({}, 0)
    assert (c.masks, c.issues[CLEAN]) == ({}, 1)


def test_images_of_a_split_without_labels_were_annotated_by_nobody(tmp_path):
    add(tmp_path, "images/train/a.png", "labels/train/a.txt", f"0 {BOX}")
    add(tmp_path, "images/test/b.png")
    b, a = read(tmp_path)
    assert (a.part, b.part) == ("train", "test")
    assert (b.masks, b.issues) == (None, {CLEAN: 0, UNLABELLED: 1, UPRIGHT: 0})


def test_outlines_of_four_corners_throughout_may_be_oriented_boxes(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}\n0 {BOX}\n")
    note = (
        "all 2 outlines have four corners: are they oriented boxes? then the masks are boxes too, larger than"
    )
    assert find(tmp_path).notes[-1].startswith(note)
    np.testing.assert_array_equal(read(tmp_path)[0].masks["class 0"], BOX_MASK)
    add(tmp_path, "images/b.png", "labels/b.txt", "0 0 0 0.25 0 0.25 0.25\n")
    assert len(find(tmp_path).notes) == 1


def test_a_pipe_among_the_label_files_is_not_waited_for(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}\n")
    for name in ("labels/0.txt", "classes.txt", "data.yaml"):
        os.mkfifo(tmp_path / name)
    assert len(read(tmp_path)) == 1


def test_images_elsewhere_and_hidden_files_are_not_read(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}")
    add(tmp_path, "images/._a.png", "labels/._a.txt", "x")
    add(tmp_path, "val_batch0.jpg")
    source = find(tmp_path)
    assert len(list(source.read())) == 1
    assert source.notes[-1] == "image files in no folder images, not read: 1"


def test_accents_and_the_suffix_s_case_are_no_obstacle(tmp_path):
    add(tmp_path, "images/e\u0301/e\u0301.JPG", "labels/\u00e9/\u00e9.txt", f"0 {BOX}")
    assert read(tmp_path)[0].masks["class 0"].sum() == 6


def test_where_a_stem_is_shared_label_files_bear_the_whole_name(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.png.txt", f"0 {BOX}")
    add(tmp_path, "images/a.bmp", "labels/a.bmp.txt")
    bmp, png = read(tmp_path)
    assert (bmp.masks, list(png.masks)) == ({}, ["class 0"])
    (tmp_path / "labels" / "a.txt").write_text(f"0 {BOX}")
    refuse(tmp_path, f"{tmp_path}/labels/a.txt: has no image in images, or several of its stem")


def test_label_files_without_an_image_are_counted_and_the_first_is_named(tmp_path):
    add(tmp_path, "images/b.png", "labels/a.txt", f"0 {BOX}")
    refuse(tmp_path, f"{tmp_path}/labels/a.txt: has no image in images, or several of its stem")
    for name in ("c", "d"):
        (tmp_path / "labels" / f"{name}.txt").write_text("")
    refuse(tmp_path, "a.txt: has no image in images, or several of its stem; so have 2 others")


def test_oddities_are_counted(tmp_path):
    lines = ["0 -0.1 0 1.2 0 1.2 0.25 -0.1 0.25", "0 0.5 0.5", "0 0.01 0.01 0.02 0.01 0.02 0.02", f"1 {BOX}"]
    add(tmp_path, "images/a.png", "labels/a.txt", "\n".join(lines))
    (tmp_path / "data.yaml").write_text("names: [crack, background]")
    (one,) = read(tmp_path)
    assert {key: n for key, n in one.issues.items() if n} == {SHORT: 1, OUTSIDE: 1, FAINT: 1, NO_CLASS: 1}
    np.testing.assert_array_equal(one.masks["crack"], draw("########", *["........"] * 3))


def test_outlines_lie_on_the_upright_image_and_masks_on_the_stored_pixels(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", "0 0 0 0.75 0 0.75 0.125 0 0.125")
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, (8, 4), when turned to the right
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "images" / "a.png", exif=exif)
    (one,) = read(tmp_path)
    assert (one.shape, one.issues[UPRIGHT]) == (SHAPE, 1)
    np.testing.assert_array_equal(one.masks["class 0"], draw("........", *["#......."] * 3))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.2 0.3 0.4", "1 of 2 lines are boxes, no masks (5 numbers); export or draw outlines"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.9", "7 numbers after the class; x and y of each point are wanted"),
        ("0 0.1 0.2 340 0.4 0.5 0.6", "340; x and y are shares of width and height, from 0 to 1"),
        ("0 0.1 0.2 nan 0.4 0.5 0.6", "nan; x and y are shares"),
        (f"2 {BOX}", "class 2; classes count from 0 to 1"),
        (f"-1 {BOX}", "class -1; classes count from 0"),
        (f"0.5 {BOX}", "class 0.5; classes count from 0"),
        ("crack 0.1", "could not convert string to float: 'crack'; numbers are wanted"),
    ],
)
def test_broken_line_is_named(tmp_path, line, message):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}\n{line}\n")
    (tmp_path / "data.yaml").write_text("names: [crack, no]")
    refuse(tmp_path, f"{tmp_path}/labels/a.txt line 2: {message}")


def test_label_file_that_is_no_text_is_refused(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt")
    (tmp_path / "labels" / "a.txt").write_bytes(b"0 0.1 \xff")
    (tmp_path / "data.yaml").write_text("names: [crack]")
    refuse(tmp_path, "a.txt: not UTF-8 (invalid start byte at byte 6)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [crack, crack]", "two classes are called 'crack'"),
        ("names: [crack]\nnc: 2", "nc is 2, but there are 1 names"),
        ("names: crack", "names are neither a list nor {number: name}"),
        ("names: [crack, [no]]", "names are neither a list"),
        ("names: {a: crack}", "invalid literal for int() with base 10: 'a'"),
        ("kpt_shape: [17, 3]\nnames: [crack]", "the labels are keypoints (kpt_shape), not outlines"),
        ("names: [crack", "while parsing a flow sequence"),
    ],
)
def test_broken_data_yaml_is_refused(tmp_path, text, message):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}")
    (tmp_path / "data.yaml").write_text(text)
    refuse(tmp_path, message)


def test_two_files_that_name_the_classes_otherwise_are_refused(tmp_path):
    add(tmp_path, "images/a.png", "labels/a.txt", f"0 {BOX}")
    (tmp_path / "a.yaml").write_text("names: [crack]")
    (tmp_path / "b.yml").write_text("names: {0: crack}")
    assert find(tmp_path).classes == ("crack",)
    (tmp_path / "b.yml").write_text("names: [pit]")
    refuse(tmp_path, f"b.yml: names ['pit'], {tmp_path}/a.yaml names ['crack']; keep the right one")


@pytest.mark.parametrize("text", ["Car 0.00 0 -1.57 599.41", "7", "10,20,30,40,hello"])
def test_labels_of_other_tools_are_another_format(tmp_path, text):
    add(tmp_path, "images/a.png", "labels/a.txt", text)
    assert find(tmp_path) is None


def test_folders_without_label_files_are_another_format(tmp_path):
    add(tmp_path, "images/a.png")
    assert find(tmp_path) is None
    add(tmp_path, "labels/a.png")
    (tmp_path / "data.yaml").write_text("names: [crack")
    assert find(tmp_path) is None
    assert find(tmp_path / "images" / "a.png") is None
    (tmp_path / "notes.txt").write_text(f"0 {BOX}")
    assert find(tmp_path) is None


def test_written_masks_are_read_back_exactly_with_holes_and_parts(tmp_path):
    rng = np.random.default_rng(6)
    masks = {f"{n}.png": (rng.random((37 + n, 61, 2)) < 0.15 + 0.1 * n).astype(np.uint8) for n in range(6)}
    masks["0.bmp"] = np.zeros((5, 9, 2), np.uint8)
    table = write(iter(masks.items()), INFO, tmp_path)
    for name, mask in masks.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        write_image(tmp_path / "images" / name, mask[:, :, 0])
    source = find(tmp_path)
    assert source.classes == ("crack", "no")
    for one in source.read():
        for channel, name in enumerate(source.classes):
            drawn = one.masks.get(name, np.zeros(one.shape, np.uint8))
            np.testing.assert_array_equal(drawn, masks[one.image.name][:, :, channel])
        assert not any(one.issues.values())
    assert table["ImageId"].tolist() == [f"{n}.png" for n in range(6) for _ in range(2)]
    assert table["ClassId"].tolist() == [1, 2] * 6
    assert table["pixels"].tolist() == [
        int(masks[f"{n}.png"][:, :, c].sum()) for n in range(6) for c in (0, 1)
    ]
    assert not table[["lost", "gained"]].to_numpy().any()


def test_label_file_has_a_line_a_component_and_the_shared_stem_s_whole_name(tmp_path):
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[:, :, 1] = draw("##......", "##......", "........", ".......#")
    masks[:, :, 0] = BOX_MASK
    write([("a.png", masks), ("a.jpg", 0 * masks), ("b.png", masks)], INFO, tmp_path)
    names = ["a.jpg.txt", "a.png.txt", "b.txt"]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == names
    text = (tmp_path / "labels" / "b.txt").read_text()
    assert (tmp_path / "labels" / "a.png.txt").read_text() == text
    assert (tmp_path / "labels" / "a.jpg.txt").read_text() == ""
    first, *rest = text.splitlines()
    assert first == "0 0.125 0.25 0.125 0.75 0.5 0.75 0.5 0.25"
    drawn = [line.split() for line in rest]
    assert [words[0] for words in drawn] == ["1", "1"]
    outlines = [np.array(words[1:], float).reshape(-1, 2) * (8, 4) for words in drawn]
    np.testing.assert_array_equal(polygons_to_mask(outlines, SHAPE), masks[:, :, 1])


def test_data_yaml_names_the_classes_and_where_images_belong(tmp_path):
    write([], INFO, tmp_path)
    about = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert about == {"train": "images", "val": "images", "names": {0: "crack", 1: "no"}}


def test_writing_again_leaves_no_label_file_of_before(tmp_path):
    write([("a.png", np.ones((*SHAPE, 2), np.uint8))], INFO, tmp_path)
    write([("b.png", np.ones((*SHAPE, 2), np.uint8))], INFO, tmp_path)
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["b.txt"]


def test_masks_that_do_not_fit_the_classes_are_not_written(tmp_path):
    with pytest.raises(FormatError, match=r"a\.png: masks of 3 classes; plate has 2"):
        write([("a.png", np.zeros((*SHAPE, 3), np.uint8))], INFO, tmp_path)
    assert not list(tmp_path.iterdir())


def test_wide_images_lose_nothing_to_the_decimals(tmp_path):
    masks = np.zeros((3, 9001, 2), np.uint8)
    masks[1, 1::2, 0] = 1
    table = write([("a.png", masks)], INFO, tmp_path)
    assert table.to_numpy().tolist() == [["a.png", 1, 4500, 0, 0]]
