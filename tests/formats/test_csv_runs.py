"""Runs in CSV files: the columns of several competitions, on images that are never square."""

import os
import re
import time

import numpy as np
import pytest

from defectmill.formats import csv_runs
from defectmill.formats.csv_runs import CLEAN, JOINED, SHARED, UNKNOWN, WORD, find
from defectmill.formats.shapes import FormatError
from defectmill.images import write_image
from defectmill.rle import mask_to_rle

SHAPE = (4, 6)  # three pixels of the second column are "5 3" down columns; along rows "2 1 8 1 14 1"
STRIPE = np.zeros(SHAPE, np.uint8)
STRIPE[:3, 1] = 1
ROWS = "2 1 8 1 14 1"


@pytest.fixture
def raw(tmp_path):
    """Write a table beside the images of its folder: raw("id,rle", "a,1 1", train=["a.png"])."""

    def write(*lines: str, name: str = "train.csv", **folders: list[str]):
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        for part, names in folders.items():
            for file in names:
                path = folder / part / file
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, np.full(SHAPE, 9, np.uint8))
        return folder

    return write


def read(raw) -> dict:
    return {one.image.name: one for one in find(raw).read()}


def pixels(masks) -> dict:
    return {name: np.argwhere(mask).tolist() for name, mask in masks.items()}


DOWN = [[0, 1], [1, 1], [2, 1]]


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        (["ImageId_ClassId,EncodedPixels", "a.png_1,", "a.png_2,5 3"], ("class 1", "class 2")),
        (["ImageId,ClassId,EncodedPixels", "a.png,2,5 3", "b.png,1,1 1"], ("class 1", "class 2")),
        (["EncodedPixels,ClassId,ImageId", "5 3,10,a.png", ",9,a.png"], ("class 9", "class 10")),
        (["Image_Label,EncodedPixels", "a.png_Fish,", "a.png_big_fish,5 3"], ("Fish", "big_fish")),
        (["Image_Label,EncodedPixels", "a_Fish,", "a_Flower,5 3"], ("Fish", "Flower")),
        (["ImageId,EncodedPixels", "a.png,5 3"], ("defect",)),
        (["id,encoding", "a,5 3"], ("defect",)),
        (["id,organ,rle,image_height,image_width", "a,kidney,5 3,4,6"], ("defect",)),
        (["record_id,encoded_pixels", "b,-", "a,5 3"], ("defect",)),
        (["id,class,segmentation_columns", "a,bowel,", "a,stomach,5 3"], ("bowel", "stomach")),
    ],
)
def test_columns_of_many_competitions_are_read(raw, lines, classes):
    source = find(raw(*lines, train=["a.png", "b.png"]))
    assert (source.format, source.classes) == ("csv", classes)
    images = {one.image.name: one for one in source.read()}
    assert list(images) == ["a.png", "b.png"]
    assert images["a.png"].shape == SHAPE
    assert pixels(images["a.png"].masks) == {classes[-1]: DOWN}
    mask = images["a.png"].masks[classes[-1]]
    assert (mask.shape, mask.dtype, mask.flags.c_contiguous) == (SHAPE, np.uint8, True)


def test_sartorius_counts_along_rows_from_1_and_has_a_row_a_cell(raw):
    lines = ["id,annotation,width,height,cell_type", f"a,{ROWS},6,4,cort", "a,3 1 9 1,6,4,cort"]
    source = find(raw(*lines, train=["a.png"]))
    assert source.classes == ("cort",)
    assert source.notes == ("runs go along rows: 2 masks fall into 2 pieces so, into 5 the other way",)
    (one,) = source.read()
    assert pixels(one.masks) == {"cort": [[0, 1], [0, 2], [1, 1], [1, 2], [2, 1]]}
    assert one.issues == {WORD: 0, JOINED: 1, SHARED: 0}


@pytest.mark.parametrize(("column", "way"), [("rle_rows", "along rows"), ("rle_columns", "down columns")])
def test_the_name_of_the_column_can_tell_the_direction(raw, column, way):
    rle = ROWS if way == "along rows" else "5 3"
    source = find(raw(f"id,{column}", f"a,{rle}", train=["a.png"]))
    assert source.notes[0] == f"runs go {way}, as the name of the column {column} says"
    assert pixels(next(source.read()).masks) == {"defect": DOWN}


@pytest.mark.parametrize("header", ["Id,predicted", "id,annotation", "ImageId,EncodedPixels"])
@pytest.mark.parametrize("along_rows", [True, False])
def test_masks_tell_the_direction_whatever_the_columns_are_called(raw, header, along_rows):
    mask = np.zeros((20, 34), np.uint8)
    mask[4:12, 5:17] = 1
    write_image(raw() / "a.png", mask)
    source = find(raw(header, f"a,{mask_to_rle(mask.T if along_rows else mask)}"))
    (told,) = source.notes
    assert re.fullmatch(
        f"runs go {'along rows' if along_rows else 'down columns'}: 1 masks fall .* 1 .*", told
    )
    np.testing.assert_array_equal(next(source.read()).masks["defect"], mask)


def test_of_square_images_the_columns_tell_and_the_way_out_is_named(raw):
    square = np.zeros((20, 20), np.uint8)
    square[4:12, 5:17] = 1
    write_image(raw() / "a.png", square)
    note = find(raw("Id,predicted", f"a,{mask_to_rle(square)}")).notes[0]
    assert "taken to go down columns, as nearly always" in note
    assert note.endswith("where they lie transposed, rename the column predicted_rows")


def test_runs_that_touch_share_pixels_or_say_nothing_are_counted(raw):
    lines = ["ImageId,EncodedPixels", "a.png,5 3", "a.png,7 2", "a.png, -1", "b.png,NaN", "c.png,"]
    images = read(raw(*lines, img=["a.png", "b.png", "c.png"]))
    assert pixels(images["a.png"].masks) == {"defect": [*DOWN, [3, 1]]}
    assert images["a.png"].issues == {WORD: 1, JOINED: 1, SHARED: 1}
    assert images["b.png"].issues == {WORD: 1, JOINED: 0, SHARED: 0}
    assert (images["b.png"].masks, images["c.png"].issues[WORD]) == ({}, 0)


def test_an_image_without_a_row_is_clean_where_only_defects_are_listed(raw):
    source = find(raw("ImageId,EncodedPixels", "a.png,5 3", train=["a.png", "b.png"]))
    assert source.notes[1] == "1 images without a row: clean"
    assert [(one.masks == {}, one.issues.get(CLEAN)) for one in source.read()] == [(False, None), (True, 1)]


def test_an_image_without_a_row_is_unknown_where_clean_ones_are_listed(raw):
    source = find(raw("ImageId,EncodedPixels", "a.png,5 3", "c.png,", train=["a.png", "b.png", "c.png"]))
    assert source.notes[1] == "1 images without a row: nobody annotated them"
    assert [one.masks is None for one in source.read()] == [False, True, False]
    assert [one.issues.get(UNKNOWN) for one in source.read()] == [None, 1, None]


def test_the_folder_is_that_of_the_most_names_and_images_of_others_are_left_alone(raw):
    folder = raw(
        "ImageId,EncodedPixels", "a.png,5 3", "b.png,", test=["a.png", "z.png"], train=["a.png", "b.png"]
    )
    assert [one.image.relative_to(folder).as_posix() for one in find(folder).read()] == [
        "train/a.png",
        "train/b.png",
    ]


def test_names_with_folders_find_the_images_there_and_their_parts(raw):
    folder = raw("path,rle", "train/1.png,5 3", "test/1.png,", train=["1.png"], test=["1.png"])
    parts = {one.part: pixels(one.masks) for one in find(folder).read()}
    assert parts == {"train": {"defect": DOWN}, "test": {}}


def test_of_two_folders_with_the_same_names_that_of_masks_is_left_alone_and_a_note_says_so(raw):
    folder = raw("id,rle_columns", "1,5 3", Masks=["1.png"], images=["1.png"])
    assert find(folder).notes[1] == "images are those of images; Masks has files of the same names"
    assert [one.image.parent.name for one in find(folder).read()] == ["images"]


def test_images_without_a_row_have_a_part_too(raw):
    folder = raw("path,rle", "train/1.png,5 3", "test/1.png,1 1", train=["1.png", "2.png"], test=["1.png"])
    assert [(one.image.name, one.part) for one in find(folder).read()] == [
        ("1.png", "test"),
        ("1.png", "train"),
        ("2.png", "train"),
    ]


def test_a_folder_that_tells_no_two_images_apart_is_told(raw):
    folder = raw("id,rle_columns", "cam/7.png,5 3", **{"a/cam": ["7.png"], "b/cam": ["7.png"]})
    assert find(folder).notes[1] == "images are those of a/cam; b/cam has files of the same names"
    assert [one.image.parent.parent.name for one in find(folder).read()] == ["a"]


def test_a_part_is_only_told_where_every_image_has_one(raw):
    folder = raw("path,rle", "train/1.png,5 3", "more/2.png,", train=["1.png"], more=["2.png"])
    assert [one.part for one in find(folder).read()] == ["", ""]


def test_rows_of_images_without_a_file_are_left_out_and_counted(raw):
    source = find(raw("ImageId,EncodedPixels", "a.png,5 3", "gone.png,1 1", "gone.png,4 1", train=["a.png"]))
    assert source.notes[1] == "1 of 2 images have no file (gone.png, ...): left out"
    assert [one.image.name for one in source.read()] == ["a.png"]


def test_the_file_itself_may_be_named_and_may_lie_one_folder_below(raw):
    folder = raw("ImageId,EncodedPixels", "a.png,5 3", train=["a.png"])
    assert find(folder / "train.csv").classes == ("defect",)
    assert find(folder.parent).classes == ("defect",)


def test_samples_of_submissions_and_tables_of_other_things_are_no_annotations(raw):
    folder = raw("ImageId,EncodedPixels", "a.png,1 1", name="sample_submission_v2.csv", test=["a.png"])
    assert find(folder) is None
    raw("filename,width,height,class,xmin", "a.png,6,4,dent,2", name="boxes.csv")
    raw("id,mask", "a.png,masks/a.png", name="files.csv")
    assert find(folder) is None
    assert find(folder / "test" / "a.png") is None


@pytest.mark.parametrize(
    ("lines", "offence"),
    [
        (
            ["ImageId,EncodedPixels", "a.png,5 3", "a.png,24 2"],
            "row 3: a.png: run 1 (24 2) leaves the image of 4 x 6",
        ),
        (["ImageId,EncodedPixels", "a.png,9 3 5 1"], "row 2: a.png: run 2 (5 1) is not sorted after run 1"),
        (["ImageId,EncodedPixels", "a.png,5 3 7"], "row 2: a.png: not 'start length' pairs"),
        (
            ["id,rle,height,width", "a.png,5 3,6,4"],
            "row 2: says height 6 and width 4 (swapped?); a.png has 4 and 6",
        ),
        (["id,rle_rows", "a.png,24 2"], "row 2: a.png: run 1 (24 2) leaves the image of 4 x 6"),
        (["id,rle,height,width", "a.png,5 3,4,8"], "row 2: says height 4 and width 8; a.png has 4 and 6"),
        (["id,rle,height,width", "a.png,5 3,4,six"], "row 2: height and width are no numbers: ['4', 'six']"),
    ],
)
def test_a_row_that_does_not_fit_its_image_is_refused(raw, lines, offence):
    folder = raw(*lines, train=["a.png"])
    with pytest.raises(FormatError, match=re.escape(f"{folder / 'train.csv'} {offence}")):
        list(find(folder).read())


@pytest.mark.parametrize(
    ("lines", "offence"),
    [
        (["ImageId,EncodedPixels", "a1.png,5 3"], "row 2: no image file 'a1.png'; did you mean 'a.png'?"),
        (["ImageId,EncodedPixels", "A.PNG,5 3"], "there is 'a.png': the case of letters counts"),
        (
            ["ImageId,EncodedPixels", "a.png,5 3", "t,"],
            "row 3: no image file 't'; it may mean 't.jpg' or 't.png'",
        ),
        (["ImageId,ClassId,EncodedPixels", "a.png,,5 3"], "row 2: no class: 'a.png', ''"),
        (["ImageId,EncodedPixels", ",5 3"], "row 2: no image"),
        (["Image_Label,EncodedPixels", "Fish,5 3"], "row 2: not '<image>_<class>': 'Fish'"),
        (["ImageId;EncodedPixels", "a.png;5 3"], "row 1: columns are separated by ';'"),
        (["ImageId,EncodedPixels", "a.png,5 3,7,8"], "row 2: has more cells than the header"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_row(raw, lines, offence):
    folder = raw(*lines, train=["a.png", "t.png", "t.jpg"])
    with pytest.raises(FormatError, match=re.escape(offence)):
        find(folder)


def test_two_tables_of_runs_are_named(raw):
    folder = raw("ImageId,EncodedPixels", "a.png,5 3", train=["a.png"])
    raw("ImageId,EncodedPixels", "a.png,5 3", name="train_2.csv")
    with pytest.raises(FormatError, match=re.escape("train.csv and train_2.csv hold runs; give one of them")):
        find(folder)


def test_large_images_are_not_drawn_to_tell_the_direction(raw, monkeypatch):
    mask = np.zeros((20, 34), np.uint8)
    mask[4:12, 5:17] = 1
    folder = raw("id,rle", f"a,{mask_to_rle(mask)}")
    write_image(folder / "a.png", mask)
    assert "1 masks fall into" in find(folder).notes[0]
    monkeypatch.setattr(csv_runs, "LARGEST", mask.size - 1)
    assert "the masks do not tell" in find(folder).notes[0]


@pytest.mark.parametrize(
    "header", [b"x" * 3_000_000, b'"' + b"x" * 3_000_000, b"\0,ImageId", b"," * 3_000_000]
)
def test_a_header_without_end_is_of_another_format(tmp_path, header):
    (tmp_path / "a.csv").write_bytes(header + b"\n1,2\n")
    started = time.perf_counter()
    assert find(tmp_path) is None
    assert time.perf_counter() - started < 5


def test_a_pipe_is_of_another_format(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    assert find(tmp_path) is None
    assert find(tmp_path / "a.csv") is None
