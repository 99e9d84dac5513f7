"""CVAT's XML and Pascal VOC's class masks, on images of 6 x 9 pixels with shapes drawn by hand."""

import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from defectmill.formats.reading import CLEAN, NO_AREA, TURNED
from defectmill.formats.shapes import OUTSIDE, FormatError
from defectmill.formats.xml_files import BORDERS, LAYERS, TAGS, find_cvat, find_voc
from defectmill.images import write_image

SIZE = (6, 9)


def save_image(path: Path, shape=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full(shape, 90, np.uint8))


def rows_of(mask):
    return ["".join(map(str, row)) for row in mask.tolist()]


def only(source):
    (annotated,) = source.read()
    return annotated


def found(issues):
    return {what: n for what, n in issues.items() if n}


# CVAT

LABELS = """<meta><task><labels>
<label><name>pit</name><color>#FF8000</color><type>any</type></label>
<label><name>crack</name><color>#0a0b0c</color></label>
<label><name>corner</name><color>#000001</color><type>points</type><parent>crack</parent></label>
</labels></task></meta>"""


def cvat(*shapes, head=LABELS, name="a.png", size=SIZE, more=""):
    image = (
        f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}"{more}>{"".join(shapes)}</image>'
    )
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{start}{head}{image}</annotations>"


def cvat_shape(kind, label="crack", **values):
    told = "".join(f' {key}="{value}"' for key, value in values.items())
    return f'<{kind} label="{label}" source="manual" occluded="0" z_order="0"{told}></{kind}>'


POLYGON = cvat_shape("polygon", points="1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00")


def save_cvat(folder: Path, text: str, image="images/a.png"):
    save_image(folder / image)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")


def test_cvat_counts_along_the_edges_of_pixels(tmp_path):
    box = cvat_shape("box", "pit", xtl="6.40", ytl="3.60", xbr="9.00", ybr="6.00")
    save_cvat(tmp_path, cvat(POLYGON, box))
    source = find_cvat(tmp_path)
    assert (source.format, source.classes, source.notes) == ("cvat", ("pit", "crack"), (CLEAN, LAYERS))
    assert source.colours == ((255, 128, 0), (10, 11, 12))
    annotated = only(source)
    assert (annotated.image, annotated.shape, annotated.part) == (tmp_path / "images" / "a.png", SIZE, "")
    assert rows_of(annotated.masks["crack"]) == [
        "000000000",
        "011100000",
        "011100000",
        "000000000",
        "000000000",
        "000000000",
    ]
    assert rows_of(annotated.masks["pit"])[3:] == ["000000000", "000000111", "000000111"]
    assert found(annotated.issues) == {}
    assert {NO_AREA, TAGS, OUTSIDE} <= annotated.issues.keys()


def test_cvat_s_runs_go_along_the_rows_of_their_box_background_first(tmp_path):
    mask = cvat_shape("mask", rle="1, 3, 2, 1, 1", left=4, top=2, width=4, height=2)
    save_cvat(tmp_path, cvat(mask))
    assert rows_of(only(find_cvat(tmp_path)).masks["crack"]) == [
        "000000000",
        "000000000",
        "000001110",
        "000000100",
        "000000000",
        "000000000",
    ]


def test_cvat_s_masks_may_begin_and_end_with_the_defect_and_touch_the_edges(tmp_path):
    masks = [cvat_shape("mask", rle="0, 1, 2, 1", left=left, top=4, width=2, height=2) for left in (0, 7)]
    save_cvat(tmp_path, cvat(*masks))
    assert rows_of(only(find_cvat(tmp_path)).masks["crack"])[4:] == ["100000010", "010000001"]


def test_cvat_s_boxes_and_ellipses_are_turned_clockwise_about_their_middle(tmp_path):
    box = cvat_shape("box", xtl="1", ytl="2", xbr="5", ybr="3.2", rotation="90.00")
    ellipse = cvat_shape("ellipse", "pit", cx="7.00", cy="3.00", rx="2.60", ry="0.80", rotation="90.00")
    save_cvat(tmp_path, cvat(box, ellipse))
    masks = only(find_cvat(tmp_path)).masks
    assert rows_of(masks["crack"]) == ["000000000", *["001100000"] * 4, "000000000"]
    assert rows_of(masks["pit"]) == ["000000000", *["000000110"] * 4, "000000000"]


def test_cvat_s_ellipse_that_is_turned_clockwise_falls_to_the_right(tmp_path):
    save_cvat(
        tmp_path, cvat(cvat_shape("ellipse", cx="4.50", cy="3.00", rx="3.40", ry="0.80", rotation="30.00"))
    )
    assert rows_of(only(find_cvat(tmp_path)).masks["crack"]) == [
        "000000000",
        "001000000",
        "001110000",
        "000011100",
        "000000100",
        "000000000",
    ]


def test_cvat_s_shapes_without_an_area_and_tags_are_counted(tmp_path):
    points = "1.00,1.00;4.00,1.00"
    lines = [cvat_shape("polyline", points=points), cvat_shape("points", points=points)]
    skeleton = '<skeleton label="crack"><points label="corner" points="1,1"></points></skeleton>'
    save_cvat(tmp_path, cvat(*lines, skeleton, cvat_shape("tag"), POLYGON))
    annotated = only(find_cvat(tmp_path))
    assert found(annotated.issues) == {NO_AREA: 3, TAGS: 1}
    assert annotated.masks["crack"].sum() == 6


def test_cvat_s_image_without_shapes_is_clean_and_one_that_is_not_listed_is_nobody_s(tmp_path):
    save_cvat(tmp_path, cvat(), "images/a.png")
    save_image(tmp_path / "images" / "b.png")
    save_image(tmp_path / "other" / "c.png")
    source = find_cvat(tmp_path)
    assert [one.masks for one in source.read()] == [{}, None]
    assert source.notes[2:] == ("image files in folders without an annotated image are not read: other",)


def test_cvat_s_subsets_are_parts_and_folders_of_a_name_count(tmp_path):
    images = [
        f'<image name="{folder}/a.png" subset="{subset}" width="9" height="6">{POLYGON}</image>'
        for folder, subset in (("one", "Train"), ("two", "Validation"), ("three", "Test"))
    ]
    for folder in ("one", "two", "three"):
        save_image(tmp_path / "images" / folder / "a.png")
    text = f"<annotations>{LABELS.replace('task', 'project')}{''.join(images)}</annotations>"
    (tmp_path / "annotations.xml").write_text(text)
    read = {one.image.parent.name: one.part for one in find_cvat(tmp_path).read()}
    assert read == {"one": "train", "two": "train", "three": "test"}


def test_cvat_s_labels_may_be_known_from_shapes_alone_and_background_is_none(tmp_path):
    other = cvat_shape("box", "background", xtl=0, ytl=0, xbr=1, ybr=1)
    save_cvat(tmp_path, cvat(POLYGON, other, head=""))
    source = find_cvat(tmp_path / "annotations.xml")
    assert (source.classes, source.colours) == (("crack",), ())
    assert [*only(find_cvat(tmp_path)).masks] == ["crack"]


def test_cvat_s_masks_are_turned_back_where_it_turned_the_image(tmp_path):
    save_cvat(tmp_path, cvat(POLYGON, size=(9, 6)))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "images" / "a.png") as image:
        image.save(tmp_path / "images" / "a.png", exif=exif)
    annotated = only(find_cvat(tmp_path))
    upright = np.zeros((9, 6), np.uint8)
    upright[1:3, 1:4] = 1
    np.testing.assert_array_equal(
        annotated.masks["crack"], cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE)
    )
    assert found(annotated.issues) == {TURNED: 1}


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'


@pytest.mark.parametrize(
    ("text", "offence"),
    [
        ("<annotations><image>", "annotations.xml: not XML (no element found"),
        (BOMB, "annotations.xml: has a DOCTYPE (a), which no annotation tool writes"),
        (
            "<annotations><track id='0'/></annotations>",
            "of a video (it has tracks); export it as CVAT for images",
        ),
        (
            cvat(cvat_shape("box", "hole")),
            "image 'a.png': a box has the label 'hole'; there are: corner, crack, pit",
        ),
        (cvat(name="b.png"), "annotations.xml: shapes: image 'b.png' is not in"),
        (cvat(size=(9, 6)), "annotations.xml: shapes: a.png is (9, 6) there, (height, width), and (6, 9)"),
        (cvat(size=("x", 6)), "image has height width = ['x', '6']; numbers are wanted"),
        (cvat(head="", name="a.png"), "names no label and no shape"),
        (cvat(POLYGON, cvat_shape("cuboid")), "shapes[1] (a.png): a cuboid cannot be drawn as a mask"),
        (cvat(cvat_shape("polygon", points="1,2;3")), "points are x,y;x,y;..., not '1,2;3'"),
        (cvat(cvat_shape("polygon")), "points are x,y;x,y;..., not ''"),
        (cvat(cvat_shape("polygon", points="1,2;3,nan;4,4")), "a polygon reaches nan"),
        (cvat(cvat_shape("box", xtl=1, ytl=2, xbr=3)), "box has xtl ytl xbr ybr = ['1', '2', '3', None]"),
        (
            cvat(cvat_shape("mask", rle="1, 3", left=6, top=2, width=4, height=1)),
            "a mask of (1, 4) at (2, 6) leaves the image of (6, 9)",
        ),
        (
            cvat(cvat_shape("mask", rle="1, 2", left=4, top=2, width=4, height=1)),
            "runs of 3 pixels for a mask of (1, 4): '1, 2'",
        ),
        (
            cvat(cvat_shape("mask", rle="5, -1", left=4, top=2, width=4, height=1)),
            "runs of 4 pixels for a mask of (1, 4): '5, -1'",
        ),
        (
            cvat(cvat_shape("mask", rle="1 3", left=4, top=2, width=4, height=1)),
            "runs are whole numbers with commas, not '1 3'",
        ),
        (
            cvat(cvat_shape("mask", rle="99999999999999999999", left=4, top=2, width=4, height=1)),
            "runs are whole numbers with commas",
        ),
    ],
)
def test_cvat_is_refused_with_file_place_and_value(tmp_path, text, offence):
    save_cvat(tmp_path, text)
    with pytest.raises(FormatError, match=re.escape(offence)) as caught:
        only(find_cvat(tmp_path))
    assert "annotations.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cvat_refuses_an_image_that_is_listed_twice(tmp_path):
    save_cvat(tmp_path, cvat(POLYGON))
    (tmp_path / "task_2.xml").write_text(cvat(POLYGON))
    with pytest.raises(
        FormatError, match=r"task_2\.xml: shapes: .*a\.png is annotated in .*annotations\.xml"
    ):
        find_cvat(tmp_path)


def test_other_xml_is_not_cvat_s(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><object/></annotation>")
    assert find_cvat(tmp_path) is None
    assert find_cvat(tmp_path / "a.xml") is None


# Pascal VOC

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 753 + [224, 224, 192]
NUMBERS = np.zeros(SIZE, np.uint8)
NUMBERS[1:3, 4:8] = 2
NUMBERS[3, 4:8] = 255
NUMBERS[5, 0] = 11
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\npit:0,128,0::\ncrack: 128, 0, 0 ::\n"


def save_voc(home: Path, mask=NUMBERS, name="a", labelmap=None, image="JPEGImages/{}.jpg"):
    save_image(home / image.format(name))
    path = home / "SegmentationClass" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask)
    if mask.ndim == 2:
        picture.putpalette(PALETTE)
    picture.save(path)
    if labelmap:
        (home / "labelmap.txt").write_text(labelmap)


def coloured(numbers):
    return np.array(PALETTE, np.uint8).reshape(256, 3)[numbers]


def test_voc_s_numbers_are_classes_and_its_borders_are_none(tmp_path):
    save_voc(tmp_path)
    source = find_voc(tmp_path)
    assert (source.format, source.classes, source.colours, source.notes) == (
        "voc",
        ("class 2", "class 11"),
        (),
        (),
    )
    annotated = only(source)
    assert (annotated.image, annotated.shape) == (tmp_path / "JPEGImages" / "a.jpg", SIZE)
    assert rows_of(annotated.masks["class 2"]) == [
        "000000000",
        "000011110",
        "000011110",
        "000000000",
        "000000000",
        "000000000",
    ]
    assert rows_of(annotated.masks["class 11"])[4:] == ["000000000", "100000000"]
    assert found(annotated.issues) == {BORDERS: 4}


@pytest.mark.parametrize("is_palette", [True, False])
def test_voc_s_labelmap_names_the_colours_of_palettes_and_of_pictures(tmp_path, is_palette):
    numbers = np.where(NUMBERS == 11, 1, NUMBERS)
    save_voc(tmp_path, numbers if is_palette else coloured(numbers), labelmap=LABELMAP)
    source = find_voc(tmp_path)
    assert (source.classes, source.colours) == (("pit", "crack"), ((0, 128, 0), (128, 0, 0)))
    annotated = only(source)
    assert {name: int(mask.sum()) for name, mask in annotated.masks.items()} == {"crack": 1, "pit": 8}
    assert found(annotated.issues) == {BORDERS: 4}


def test_voc_s_background_and_borders_may_have_other_colours(tmp_path):
    labelmap = "Background:128,0,0::\npit:0,128,0::\nignored:128,128,0::\nwhite:224,224,192::\n"
    numbers = np.ones(SIZE, np.uint8)
    numbers[2, 3:5], numbers[4, 4], numbers[5] = 2, 3, 255
    save_voc(tmp_path, numbers, labelmap=labelmap)
    source = find_voc(tmp_path)
    assert source.classes == ("pit", "white")
    annotated = only(source)
    assert {name: int(mask.sum()) for name, mask in annotated.masks.items()} == {"pit": 2, "white": 9}
    assert annotated.issues[BORDERS] == 1


def test_voc_s_grey_classes_are_read_by_their_colour(tmp_path):
    numbers = np.zeros((*SIZE, 3), np.uint8)
    numbers[2, 3:5] = 90
    save_voc(tmp_path, numbers, labelmap="background:0,0,0::\npit:90,90,90::\n")
    assert only(find_voc(tmp_path)).masks["pit"].sum() == 2


def test_voc_s_image_without_a_mask_is_nobody_s_and_masks_are_no_images(tmp_path):
    save_voc(tmp_path)
    save_image(tmp_path / "JPEGImages" / "b.jpg")
    save_image(tmp_path / "SegmentationObject" / "a.png")
    assert [one.masks is None for one in find_voc(tmp_path).read()] == [False, True]


def test_voc_s_folders_tell_the_part_and_may_share_names(tmp_path):
    for part in ("train", "val", "test"):
        save_voc(tmp_path / part)
    assert [one.part for one in find_voc(tmp_path).read()] == ["test", "train", "train"]


def test_voc_s_lists_tell_the_part(tmp_path):
    for name in ("a", "b", "c"):
        save_voc(tmp_path / "VOC2012", name=name)
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, text in {"train": "a\n", "val": "b\n", "test": "c\n", "trainval": "a\nb\n"}.items():
        (lists / f"{name}.txt").write_text(text)
    assert [one.part for one in find_voc(tmp_path).read()] == ["train", "train", "test"]


def test_voc_s_images_may_lie_elsewhere_and_in_folders(tmp_path):
    save_voc(tmp_path, name="line/a", image="images/{}.jpg")
    save_voc(tmp_path, name="belt/a", image="images/{}.jpg")
    read = [one.image.relative_to(tmp_path).as_posix() for one in find_voc(tmp_path).read()]
    assert read == ["images/belt/a.jpg", "images/line/a.jpg"]


@pytest.mark.parametrize(
    ("mask", "labelmap", "offence"),
    [
        (
            coloured(NUMBERS),
            None,
            "a.png: shows colours; a labelmap.txt beside SegmentationClass/ is to name them",
        ),
        (
            np.where(NUMBERS == 11, 3, NUMBERS),
            "pit:0,128,0::",
            "a.png: pixel (5, 0) has the colour (128, 128, 0)",
        ),
        (
            NUMBERS,
            "pit:0,128,0::\nrust::::",
            "labelmap.txt: line 2 is 'rust::::'; name:red,green,blue:: is wanted",
        ),
        (NUMBERS, "pit:0,128,0::\nrust:0,128,0::", "line 2 gives rust the colour (0, 128, 0) of pit"),
        (NUMBERS.T.copy(), None, "a.jpg is (9, 6) there, (height, width), and (6, 9) as a file"),
        (NUMBERS * 0, None, "SegmentationClass: holds no PNG mask of a class"),
    ],
)
def test_voc_is_refused_with_file_place_and_value(tmp_path, mask, labelmap, offence):
    save_voc(tmp_path, mask, labelmap=labelmap)
    with pytest.raises(FormatError, match=re.escape(offence)):
        only(find_voc(tmp_path))


def test_voc_refuses_a_mask_without_an_image_or_with_two(tmp_path):
    save_voc(tmp_path)
    save_image(tmp_path / "JPEGImages" / "a.png")
    with pytest.raises(FormatError, match=r"its image may be .*a\.jpg or .*a\.png; rename one of them"):
        find_voc(tmp_path)
    for name in ("a.png", "a.jpg"):
        (tmp_path / "JPEGImages" / name).unlink()
    with pytest.raises(FormatError, match=r"SegmentationClass/a\.png: classes: image 'a' is not in"):
        find_voc(tmp_path)


def test_voc_of_boxes_alone_is_refused_and_another_folder_is_none(tmp_path):
    save_image(tmp_path / "VOC" / "JPEGImages" / "a.jpg")
    assert find_voc(tmp_path) is None
    (tmp_path / "VOC" / "Annotations").mkdir()
    path = tmp_path / "VOC" / "Annotations" / "a.xml"
    path.write_text("<annotation><object><bndbox></bndbox></object></annotation>")
    with pytest.raises(FormatError, match=r"a\.xml: holds boxes, and there is no SegmentationClass/"):
        find_voc(tmp_path)
    assert find_voc(path) is None


@pytest.mark.parametrize("line", ["pit:256,0,0::", "pit:1,2,9999::", "pit:-1,0,0::", "pit:٣,0,0"])
def test_a_colour_that_is_none_is_refused_by_its_line(tmp_path, line):
    save_voc(tmp_path, labelmap=f"# label\n{line}\n")
    with pytest.raises(FormatError, match=r"labelmap\.txt: line 2 is .*; name:red,green,blue:: is wanted"):
        find_voc(tmp_path)


def test_a_line_of_blanks_is_read_at_once(tmp_path):
    save_voc(tmp_path, labelmap=f"pit{' ' * 300_000}x\n")
    started = time.perf_counter()
    with pytest.raises(FormatError, match="line 1 is 'pit"):
        find_voc(tmp_path)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("number", ["nan", "inf", "1e300", ""])
def test_numbers_that_are_no_pixels_are_refused(tmp_path, number):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(cvat(cvat_shape("mask", rle="6", left=number, top=0, width=3, height=2)))
    with pytest.raises(FormatError, match=r"mask has left top width height = .*; numbers are wanted"):
        only(find_cvat(tmp_path))
