"""Label and image tables: both layouts, and every way in which a CSV file can be wrong."""

import re
import unicodedata

import numpy as np
import pandas as pd
import pytest

from defectmill.labels import (
    LabelError,
    classes_by_image,
    draw_masks,
    draw_runs,
    find_overlaps,
    labels_to_text,
    layout_of,
    make_image_table,
    make_label_table,
    masks_to_labels,
    read_csv,
    read_image_table,
    read_labels,
    refuse_overlaps,
    require_shape,
    runs_by_image,
    split_image_class,
    with_pair_ids,
    write_labels,
)

OLD = "ImageId_ClassId,EncodedPixels"
NEW = "ImageId,ClassId,EncodedPixels"
TABLE = [
    ("b_1.jpg", 1, "1 3", True),
    ("b_1.jpg", 2, "", False),
    ("a.jpg", 1, "", False),
    ("a.jpg", 2, "2 4 9 1", True),
]


def rows_of(labels: pd.DataFrame) -> list[tuple]:
    return list(labels.itertuples(index=False, name=None))


@pytest.fixture
def old(table_file):
    return table_file(OLD, "b_1.jpg_1,1 3", "b_1.jpg_2,", "a.jpg_1,", "a.jpg_2,2 4 9 1")


def test_image_id_may_hold_underscores():
    assert split_image_class("part_7_1.jpg_12") == ("part_7_1.jpg", 12)


UNSPLIT = ["a.jpg", "_1", "a.jpg_", "a.jpg_x", "a_1.0", "a_-1", "a_\u00b2", "a_ 1", "a_99999", ""]


@pytest.mark.parametrize("combined", UNSPLIT)
def test_combined_id_without_class_is_refused(combined):
    with pytest.raises(LabelError, match=re.escape(repr(combined))):
        split_image_class(combined)


def test_both_layouts_give_the_same_table(old, table_file):
    new = table_file(NEW, "b_1.jpg,1,1 3", "a.jpg,2,2 4 9 1", name="new.csv")
    assert rows_of(read_labels(old)) == TABLE
    pd.testing.assert_frame_equal(read_labels(old), read_labels(new))


def test_label_table_has_these_columns_and_types(old):
    labels = read_labels(old)
    assert list(labels.columns) == ["ImageId", "ClassId", "EncodedPixels", "hasMask"]
    assert labels["ClassId"].dtype == np.int64
    assert labels["hasMask"].dtype == bool


@pytest.mark.parametrize(("layout", "rows"), [("2019", 4), ("current", 2)])
def test_layouts_round_trip(old, tmp_path, layout, rows):
    labels = read_labels(old)
    write_labels(labels, tmp_path / "again.csv", layout)
    assert len((tmp_path / "again.csv").read_text().splitlines()) == 1 + rows
    again = read_labels(tmp_path / "again.csv", ["b_1.jpg", "a.jpg"])
    pd.testing.assert_frame_equal(again, labels)


def test_2019_layout_round_trips_to_the_byte(old, tmp_path):
    write_labels(read_labels(old), tmp_path / "again.csv", "2019")
    assert (tmp_path / "again.csv").read_bytes() == old.read_bytes()


def test_column_order_does_not_matter(table_file):
    csv = table_file("ClassId,EncodedPixels,ImageId", "2,2 4 9 1,a.jpg", "1,1 3,b_1.jpg")
    assert rows_of(read_labels(csv, ["b_1.jpg", "a.jpg"])) == TABLE


def test_clean_images_come_from_the_folder(table_file):
    csv = table_file(NEW, "b.jpg,2,1 3")
    labels = read_labels(csv, image_ids=["clean.jpg", "b.jpg"])
    assert rows_of(labels)[:2] == [("clean.jpg", 1, "", False), ("clean.jpg", 2, "", False)]


def test_number_of_classes_can_exceed_those_named(table_file):
    labels = read_labels(table_file(NEW, "b.jpg,1,1 3"), n_classes=3)
    assert labels["ClassId"].tolist() == [1, 2, 3]


def test_empty_cell_is_an_empty_string_and_never_nan(old):
    labels = read_labels(old)
    assert labels["EncodedPixels"].map(type).eq(str).all()
    assert labels["EncodedPixels"].tolist()[1] == ""


def test_image_called_na_keeps_its_name(table_file):
    assert read_labels(table_file(NEW, "NA,1,1 3"))["ImageId"].tolist() == ["NA"]


@pytest.mark.parametrize("how", [{"bom": True}, {"end": "\r\n"}, {"bom": True, "end": "\r\n"}])
def test_file_from_windows_reads_alike(table_file, old, how):
    lines = old.read_text().splitlines()
    assert rows_of(read_labels(table_file(*lines, name="windows.csv", **how))) == TABLE


def test_blank_lines_at_the_end_do_not_count(table_file):
    csv = table_file(OLD, "a.jpg_1,1 3", "", "")
    assert rows_of(read_labels(csv)) == [("a.jpg", 1, "1 3", True)]


def test_header_alone_means_that_all_images_are_clean(table_file):
    labels = read_labels(table_file(OLD), ["a.jpg", "b.jpg"], n_classes=2)
    assert labels["EncodedPixels"].tolist() == [""] * 4
    assert not labels["hasMask"].any()


def test_header_alone_without_images_is_an_empty_table(table_file):
    assert len(read_labels(table_file(OLD))) == 0


@pytest.mark.parametrize(
    ("lines", "offence"),
    [
        ([OLD, "a.jpg_1,1 3", "a.jpg,"], "row 3: not '<image id>_<class id>': 'a.jpg'"),
        ([OLD, "a.jpg_1,1 3", "", "b.jpg_1,"], "row 3: names no image; delete rows that are empty"),
        ([NEW, "a.jpg,1,1 3", "a.jpg,2.0,1 3"], "row 3: class id '2.0'"),
        ([NEW, "a.jpg,,1 3"], "row 2: class id ''"),
        ([NEW, "a.jpg,-1,1 3"], "row 2: class id '-1'"),
        ([NEW, "a.jpg,1_0,1 3"], "row 2: class id '1_0'"),
        ([NEW, "a.jpg,\u0661,1 3"], "row 2: class id '\u0661'"),
        ([NEW, "a.jpg,99999999999999999999,1 3"], "row 2: class id '99999999999999999999'"),
        ([NEW, ",1,1 3"], "row 2: no image id"),
        ([NEW, "a.jpg,0,1 3"], "row 2: class id 0 is outside 1..2"),
        ([NEW, "a.jpg,3,1 3"], "row 2: class id 3 is outside 1..2"),
        ([NEW, "a.jpg,1,1 3", "c.jpg,1,1 3"], "row 3: no image file 'c.jpg'"),
        ([NEW, "a.jpg,1,1 3", "A.jpg,1,1 3"], "row 3: no image file 'A.jpg'; there is 'a.jpg': the case"),
        (
            [NEW, "a.jpg,1,1 3", "x/a.jpg,1,5 1"],
            "row 2: no image file 'a.jpg'; 'a.jpg' and 'x/a.jpg' would be",
        ),
        ([NEW, "a1.jpg,1,1 3"], "row 2: no image file 'a1.jpg'; did you mean 'a.jpg'?"),
        ([NEW, "zzz,1,1 3"], "row 2: no image file 'zzz'; there are: a.jpg, b.jpg"),
        ([NEW, "a.jpg,1,1 3 5"], "row 2: a.jpg class 1: not 'start length' pairs"),
        ([NEW, "a.jpg,1,1 3", "a.jpg,1,0"], "row 3: a.jpg class 1: not 'start length' pairs"),
        ([NEW, "a.jpg,1,0 3"], "row 2: a.jpg class 1: run 1 (0 3) is not positive; pixels count from 1"),
        ([NEW, "a.jpg,1,1 3", " ,,", "b.jpg,1,1 3"], "row 3: names no image; delete rows that are empty"),
        ([OLD, "a.jpg_1,1 3,"], "row 2: has more cells than the header"),
        ([OLD, "a.jpg_1,1 3", "b.jpg_1,1 3,4"], "Expected 2 fields in line 3, saw 3"),
        (["ImageId_ClassId,Pixels", "a.jpg_1,1 3"], "no column 'EncodedPixels'"),
        (["ImageId,EncodedPixels", "a.jpg,1 3"], "no column 'ClassId'; it has ImageId"),
        (["ImageId_ClassId;EncodedPixels", "a.jpg_1;1 3"], "row 1: columns are separated by ';'"),
        ([], "not a CSV table"),
    ],
)
def test_wrong_file_is_named_with_row_and_value(table_file, lines, offence):
    csv = table_file(*lines)
    with pytest.raises(LabelError) as caught:
        read_labels(csv, image_ids=["a.jpg", "b.jpg"], n_classes=2)
    assert str(csv) in str(caught.value)
    assert offence in str(caught.value)


def test_several_rows_of_an_image_and_class_are_one_mask(table_file):
    rows = ["a.jpg,1,8 3 30 1", "a.jpg,2,1 1", "a.jpg,1,1 3", "a.jpg,1,9 5", "a.jpg,1,", "a.jpg,1,4 1"]
    labels = read_labels(table_file(NEW, *rows), ["b.jpg", "a.jpg"])
    assert rows_of(labels) == [
        ("b.jpg", 1, "", False),
        ("b.jpg", 2, "", False),
        ("a.jpg", 1, "1 4 8 6 30 1", True),
        ("a.jpg", 2, "1 1", True),
    ]


@pytest.mark.parametrize("word", ["-1", " -1", "NaN", "nan", "None", "null", "-", "  "])
def test_words_for_no_runs_are_no_defect(table_file, word):
    labels = read_labels(table_file(OLD, f"a.jpg_1,{word}", "a.jpg_2,1  3 "))
    assert rows_of(labels) == [("a.jpg", 1, "", False), ("a.jpg", 2, "1 3", True)]


DISK = unicodedata.normalize("NFD", "Fl\u00e4che 1.png")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (unicodedata.normalize("NFC", DISK), DISK),
        (unicodedata.normalize("NFC", DISK).removesuffix(".png"), DISK),
        (" part.2.jpg ", "part.2.jpg"),
        ("part.2", "part.2.jpg"),
        ("train_images/part.2", "part.2.jpg"),
        (r"C:\data\part.2.jpg", "part.2.jpg"),
    ],
)
@pytest.mark.parametrize("layout", [OLD, NEW])
def test_names_mean_files_as_they_are_on_the_disk(table_file, layout, written, meant):
    row = f"{written}_1,1 3" if layout == OLD else f"{written},1,1 3"
    labels = read_labels(table_file(layout, row), ["other.png", meant])
    assert rows_of(labels) == [("other.png", 1, "", False), (meant, 1, "1 3", True)]


def test_a_name_that_means_several_files_is_refused_though_labels_are_partial(table_file):
    csv = table_file(NEW, "gone,1,1 3", "a,1,1 3")
    for partial in (True, False):
        said = "row 3: no image file 'a'; it may mean 'a.jpg' or 'a.png'" if partial else "row 2: .*'gone'"
        with pytest.raises(LabelError, match=said):
            read_labels(csv, ["a.jpg", "a.png"], partial=partial)


def test_a_labelled_picture_of_a_kind_that_is_not_read_is_said_to_be_there(table_file, tmp_path):
    (tmp_path / "train_images" / "lot 7").mkdir(parents=True)
    for name in ("b.heic", "lot 7/c.png"):
        (tmp_path / "train_images" / name).touch()
    for name, said in {
        "b.heic": "; train_images/b.heic is there, but of a kind that is not read; .jpg .jpeg .png",
        "b": "; train_images/b.heic is there, but of a kind",
        "c.png": "; train_images/lot 7/c.png is there, but it is looked for elsewhere",
    }.items():
        with pytest.raises(LabelError, match=re.escape(f"row 2: no image file {name!r}{said}")):
            read_labels(table_file(NEW, f"{name},1,1 3"), ["a.png"])


def test_masks_of_an_image_that_the_table_does_not_name_are_not_drawn(old):
    with pytest.raises(LabelError, match=r"'b_1' is not in the label table; did you mean 'b_1\.jpg'"):
        draw_masks(read_labels(old), "b_1", (4, 3), n_classes=2)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LabelError, match=re.escape(f"{tmp_path / 'no.csv'}: no such file")):
        read_csv(tmp_path / "no.csv")


def test_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(LabelError, match=re.escape(f"{tmp_path}: cannot be read")):
        read_csv(tmp_path)


def test_file_in_another_encoding_is_named(tmp_path):
    csv = tmp_path / "latin.csv"
    csv.write_bytes(f"{OLD}\n\xe4.jpg_1,1 3\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"latin\.csv: not UTF-8 \(.*\): save it as UTF-8"):
        read_csv(csv)


def test_image_id_given_twice_is_refused(table_file):
    with pytest.raises(LabelError, match=r"image id 'b\.jpg' is given twice, for .*table\.csv"):
        read_labels(table_file(OLD, "b.jpg_1,1 3"), ["a.jpg", "b.jpg", "b.jpg"])


def test_class_id_is_channel_plus_one(old):
    masks = draw_masks(read_labels(old), "a.jpg", (4, 3), n_classes=2)
    assert (masks.shape, masks.dtype) == ((4, 3, 2), np.uint8)
    assert masks[:, :, 1].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_absent_class_is_all_zeros(old):
    masks = draw_masks(read_labels(old), "b_1.jpg", (4, 3), n_classes=3)
    assert masks.sum(axis=(0, 1)).tolist() == [3, 0, 0]


def test_runs_that_leave_the_image_are_not_drawn(old):
    with pytest.raises(LabelError, match=r"a\.jpg class 2: run 2 \(9 1\) leaves the image of 2 x 4"):
        draw_masks(read_labels(old), "a.jpg", (2, 4), n_classes=2)


def test_class_beyond_the_channels_is_not_drawn(old):
    with pytest.raises(LabelError, match=r"a\.jpg: class id 2 is outside 1\.\.1"):
        draw_masks(read_labels(old), "a.jpg", (4, 3), n_classes=1)


def test_runs_by_image_holds_clean_images_too(table_file):
    labels = read_labels(table_file(NEW, "b.jpg,2,1 3"), ["clean.jpg", "b.jpg"])
    assert runs_by_image(labels) == {"clean.jpg": {}, "b.jpg": {2: "1 3"}}


def test_classes_of_an_image_are_listed_in_order():
    rows = [("a.jpg", 3, "1 3"), ("a.jpg", 1, "5 1"), ("clean.jpg", 1, "")]
    table = classes_by_image(make_label_table(rows))
    assert rows_of(table) == [("a.jpg", "1 3"), ("clean.jpg", "")]


def test_rows_of_other_images_are_left_out_where_labels_are_partial(table_file):
    csv = table_file(NEW, "gone.jpg,3,1 3", "b.jpg,2,1 3")
    labels = read_labels(csv, ["b.jpg"], n_classes=2, partial=True)
    assert rows_of(labels) == [("b.jpg", 1, "", False), ("b.jpg", 2, "1 3", True)]


def test_the_layout_is_told_by_the_columns(old):
    assert layout_of(pd.read_csv(old)) == "2019"
    assert layout_of(read_labels(old)) == "current"


def test_kaggles_combined_id_stands_before_the_label_table(old):
    labels = with_pair_ids(read_labels(old))
    assert list(labels) == ["ImageId_ClassId", "EncodedPixels", "ImageId", "ClassId", "hasMask"]
    assert rows_of(labels)[0] == ("b_1.jpg_1", "1 3", "b_1.jpg", 1, True)


def test_rows_become_a_label_table_that_says_who_has_a_mask():
    labels = make_label_table((image_id, class_id, rle) for image_id, class_id, rle, _ in TABLE)
    assert rows_of(labels) == TABLE
    assert (labels["ClassId"].dtype, labels["hasMask"].dtype) == (np.int64, bool)


def test_masks_become_a_label_table_and_back():
    masks = np.zeros((3, 5, 3), np.uint8)
    masks[:2, 0, 0] = masks[2, 1, 0] = masks[0, 3:, 2] = 1
    labels = masks_to_labels([("b_1.png", masks), ("a.png", np.zeros((5, 2, 3)))])
    assert rows_of(labels)[:4] == [
        ("b_1.png", 1, "1 2 6 1", True),
        ("b_1.png", 2, "", False),
        ("b_1.png", 3, "10 1 13 1", True),
        ("a.png", 1, "", False),
    ]
    assert len(labels) == 6
    np.testing.assert_array_equal(draw_masks(labels, "b_1.png", (3, 5), 3), masks)
    assert labels_to_text(labels, "current") == f"{NEW}\nb_1.png,1,1 2 6 1\nb_1.png,3,10 1 13 1\n"


@pytest.mark.parametrize("make", [make_label_table, masks_to_labels])
def test_nothing_becomes_an_empty_label_table(make):
    labels = make([])
    assert (len(labels), list(labels)) == (0, ["ImageId", "ClassId", "EncodedPixels", "hasMask"])
    assert labels_to_text(labels, "2019") == f"{OLD}\n"


def test_runs_are_drawn_into_a_shape_read_from_a_table():
    shape = pd.Series({"height": 2, "width": 3}).to_numpy()
    assert draw_runs({2: "2 2"}, shape, 2).tolist() == [[[0, 0], [0, 1], [0, 0]], [[0, 1], [0, 0], [0, 0]]]


SHAPES = pd.DataFrame(
    [("b.png", 7, 4, 0.5), ("other.png", 1, 1, 0.5), ("a.png", 5, 9, 0.5)],
    columns=["ImageId", "height", "width", "blank"],
)


def test_image_table_has_height_before_width_and_round_trips(tmp_path, table_file):
    labels = read_labels(table_file(NEW, "b.png,2,28 1", "b.png,1,1 1"), ["a.png", "b.png"])
    images = make_image_table(labels, SHAPES)
    assert list(images) == ["ImageId", "height", "width", "classes"]
    assert rows_of(images) == [("a.png", 5, 9, ""), ("b.png", 7, 4, "1 2")]
    images.to_csv(tmp_path / "images.csv", index=False)
    pd.testing.assert_frame_equal(read_image_table(tmp_path / "images.csv"), images)


def test_image_table_of_no_images_is_empty():
    assert make_image_table(make_label_table([]), SHAPES).shape == (0, 4)


def test_image_table_refuses_runs_that_leave_the_image():
    labels = make_label_table([("b.png", 2, "28 2")])
    with pytest.raises(LabelError, match=r"b\.png class 2: run 1 \(28 2\) leaves .* 7 x 4 = 28"):
        make_image_table(labels, SHAPES)


def test_image_table_refuses_an_image_without_a_size():
    with pytest.raises(LabelError, match=r"gone\.png: is in the label table.*no such image file"):
        make_image_table(make_label_table([("gone.png", 1, "")]), SHAPES)


def test_five_overlapping_images_are_named_and_the_rest_counted():
    labels = make_label_table([(f"{n}.png", c, "3 2") for n in range(7) for c in (1, 2, 3)])
    assert find_overlaps(labels) == {f"{n}.png": 6 for n in range(7)}
    with pytest.raises(LabelError, match=r"in 7 images: 0\.png \(6 .*4\.png \(6 pixels\), \.\.\.; a"):
        refuse_overlaps(labels)
    with pytest.raises(LabelError, match=r"in 1 images: 0\.png \(6 pixels\); .* model\.head=multilabel"):
        refuse_overlaps(labels[:3])
    refuse_overlaps(make_label_table([("a.png", 1, "3 2"), ("a.png", 2, "5 2"), ("b.png", 1, "3 2")]))


def test_an_image_of_another_size_than_its_labels_were_read_with_is_refused():
    require_shape("a.png", (3, 5), (3, 5))
    with pytest.raises(LabelError, match=r"a\.png: is 5 x 3 pixels, and was 3 x 5 when 02 read it: `make"):
        require_shape("a.png", (5, 3), (3, 5))
