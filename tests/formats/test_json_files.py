"""labelme, Supervisely and Label Studio, on images of 6 x 9 pixels with shapes drawn by hand."""

import base64
import io
import json
import re
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from defectmill.dataset_info import DatasetInfo, DefectClass
from defectmill.files import DefectmillError
from defectmill.formats.json_files import find_label_studio, find_labelme, find_supervisely, write_labelme
from defectmill.formats.json_files.label_studio import ANSWERS, FURTHER, UNNAMED, unpack_brush
from defectmill.formats.json_files.labelme import IGNORED, inset_outline
from defectmill.formats.json_files.records import decode_patch, read_corners, read_json
from defectmill.formats.reading import CLEAN, CUT, NO_AREA, TURNED, UNTURNED
from defectmill.formats.shapes import FAINT, NO_CLASS, OUTSIDE, SHORT, FormatError, mask_to_polygons
from defectmill.images import write_image

SIZE = (6, 9)


def save_image(path: Path, shape=SIZE, orientation=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full(shape, 90, np.uint8))
    if orientation > 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(path) as image:
            image.save(path, exif=exif)


def save_json(path: Path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")


def rows_of(mask):
    return ["".join(map(str, row)) for row in mask.tolist()]


def only(source):
    (annotated,) = source.read()
    return annotated


def found(issues):
    return {what: n for what, n in issues.items() if n}


def png(mask, **options):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", **options)
    return file.getvalue()


# labelme


def shape(label="crack", points=((1, 1), (4, 1), (4, 3), (1, 3)), shape_type="polygon", **more):
    return {"label": label, "points": [*map(list, points)], "shape_type": shape_type, **more}


def labelme(*shapes, name="a.png", size=SIZE, **more):
    height, width = size
    whole = {"version": "5.5.0", "flags": {}, "shapes": [*shapes], "imagePath": name, "imageData": None}
    return {**whole, "imageHeight": height, "imageWidth": width, **more}


def save_labelme(folder: Path, *shapes, **more):
    save_image(folder / "a.png")
    save_json(folder / "a.json", labelme(*shapes, **more))


def test_labelme_counts_along_the_edges_of_pixels(tmp_path):
    triangle = shape("pit", [(5, 2), (9, 2), (9, 4), (6.6, 4)])
    box = shape("crack", [(3, 5), (0, 4)], "rectangle")
    save_labelme(tmp_path, shape(), triangle, box)
    source = find_labelme(tmp_path)
    assert (source.format, source.classes, source.colours, source.notes) == (
        "labelme",
        ("crack", "pit"),
        (),
        (),
    )
    annotated = only(source)
    assert (annotated.image, annotated.shape, annotated.part) == (tmp_path / "a.png", SIZE, "")
    assert rows_of(annotated.masks["crack"]) == [
        "000000000",
        "011100000",
        "011100000",
        "000000000",
        "111000000",
        "000000000",
    ]
    assert rows_of(annotated.masks["pit"])[1:5] == ["000000000", "000001111", "000000111", "000000000"]
    assert annotated.masks["pit"].dtype == np.uint8
    assert found(annotated.issues) == {}
    assert {NO_AREA, IGNORED, TURNED, UNTURNED, SHORT} <= annotated.issues.keys()


def test_labelme_circle_is_drawn_from_its_middle_to_the_point_on_it(tmp_path):
    save_labelme(tmp_path, shape(points=[(3.5, 2.5), (3.5, 4)], shape_type="circle"))
    assert rows_of(only(find_labelme(tmp_path)).masks["crack"]) == [
        "000000000",
        "001110000",
        "001110000",
        "001110000",
        "000000000",
        "000000000",
    ]


def test_labelme_mask_lies_at_its_first_corner(tmp_path):
    patch = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], np.uint8)
    text = base64.b64encode(png(patch)).decode()
    save_labelme(tmp_path, shape(points=[(4, 3), (7, 4)], shape_type="mask", mask=text))
    assert rows_of(only(find_labelme(tmp_path)).masks["crack"])[2:] == [
        "000000000",
        "000010110",
        "000001100",
        "000000000",
    ]


@pytest.mark.parametrize(
    ("corner", "expected"), [((7, 5), "000000010"), ((-2, 5), "110000000"), ((0, 8), "000000000")]
)
def test_labelme_mask_that_leaves_the_image_is_cut_off_and_counted(tmp_path, corner, expected):
    (x, y), patch = corner, np.array([[1, 0, 1, 1], [0, 1, 1, 0]], np.uint8)
    text = base64.b64encode(png(patch)).decode()
    save_labelme(tmp_path, shape(points=[(x, y), (x + 3, y + 1)], shape_type="mask", mask=text), shape("pit"))
    annotated = only(find_labelme(tmp_path))
    assert rows_of(annotated.masks["crack"]) == ["000000000"] * 5 + [expected]
    assert annotated.issues[CUT] == 1


def test_labelme_shapes_of_a_class_become_one_mask_whatever_their_groups(tmp_path):
    save_labelme(
        tmp_path, shape(group_id=1), shape(points=[(3, 2), (5, 4)], shape_type="rectangle", group_id=2)
    )
    assert rows_of(only(find_labelme(tmp_path)).masks["crack"])[1:4] == [
        "011100000",
        "011110000",
        "000110000",
    ]


def test_labelme_shape_without_a_type_is_a_polygon_and_a_rectangle_may_have_four_corners(tmp_path):
    four = shape("pit", [(5, 0), (6, 0), (6, 2), (5, 2)], "rectangle")
    save_labelme(tmp_path, shape(shape_type=None), four)
    masks = only(find_labelme(tmp_path)).masks
    assert (masks["crack"].sum(), masks["pit"].sum()) == (6, 2)


def test_labelme_shapes_without_an_area_or_a_class_are_counted(tmp_path):
    lines = [shape("scratch", [(0, 0), (5, 5)], kind) for kind in ("line", "linestrip")]
    shapes = [*lines, shape("dot", [(1, 1)], "point"), shape("__ignore__"), shape("_background_")]
    short, tiny = shape("crack", [(1, 1), (2, 2)]), shape("crack", [(1.6, 1.6), (2.4, 1.6), (2.4, 2.4)])
    save_labelme(tmp_path, *shapes, short, tiny, shape("pit", [(7, 0), (12, 0), (12, 1), (7, 1)]))
    source = find_labelme(tmp_path)
    assert source.classes == ("crack", "dot", "pit", "scratch")
    annotated = only(source)
    assert found(annotated.issues) == {NO_AREA: 3, IGNORED: 1, NO_CLASS: 1, SHORT: 1, FAINT: 1, OUTSIDE: 1}
    assert {name: int(mask.sum()) for name, mask in annotated.masks.items()} == {"crack": 0, "pit": 2}


def test_labelme_files_may_lie_in_a_folder_of_their_own_and_name_images_as_windows_does(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    save_json(tmp_path / "labels" / "a.json", labelme(shape(), name="..\\images\\a.png"))
    assert only(find_labelme(tmp_path)).masks["crack"].sum() == 6


def test_labelme_image_without_a_file_is_nobody_s_and_one_with_an_empty_file_is_clean(tmp_path):
    for name in ("a", "b", "c"):
        save_image(tmp_path / f"{name}.png")
    save_json(tmp_path / "a.json", labelme(shape()))
    save_json(tmp_path / "c.json", labelme(name="c.png"))
    assert [one.masks if one.masks is None else len(one.masks) for one in find_labelme(tmp_path).read()] == [
        1,
        None,
        0,
    ]


def test_labelme_images_elsewhere_and_other_json_files_are_left_out_and_noted(tmp_path):
    save_labelme(tmp_path / "train", shape())
    save_image(tmp_path / "thumbnails" / "a.png")
    save_json(tmp_path / "info.json", {"name": "steel"})
    source = find_labelme(tmp_path)
    assert [one.image for one in source.read()] == [tmp_path / "train" / "a.png"]
    assert source.notes == (
        "image files in folders without an annotated image are not read: thumbnails",
        "JSON files that are not labelme's are not read: info.json",
    )


def test_labelme_parts_are_folders_and_names_may_repeat_in_them(tmp_path):
    for part in ("train", "valid", "test"):
        save_labelme(tmp_path / part, shape())
    assert [one.part for one in find_labelme(tmp_path).read()] == ["test", "train", "train"]


def test_labelme_need_not_tell_the_size_of_the_image(tmp_path):
    save_labelme(tmp_path, shape(), imageHeight=None)
    assert only(find_labelme(tmp_path)).masks["crack"].sum() == 6


def test_labelme_takes_one_file(tmp_path):
    save_labelme(tmp_path, shape())
    assert only(find_labelme(tmp_path / "a.json")).masks["crack"].sum() == 6


@pytest.mark.parametrize(("orientation", "told"), [(6, (9, 6)), (8, (9, 6)), (3, SIZE)])
def test_labelme_masks_are_turned_back_where_the_tool_turned_the_image(tmp_path, orientation, told):
    save_image(tmp_path / "a.png", SIZE, orientation)
    save_json(tmp_path / "a.json", labelme(shape(points=[(3, 1), (5, 3)], shape_type="rectangle"), size=told))
    annotated = only(find_labelme(tmp_path))
    upright = np.zeros(told, np.uint8)
    upright[1:3, 3:5] = 1
    back = {6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE, 3: cv2.ROTATE_180}
    np.testing.assert_array_equal(annotated.masks["crack"], cv2.rotate(upright, back[orientation]))
    assert annotated.shape == SIZE
    assert found(annotated.issues) == {TURNED: 1}


def test_labelme_masks_for_the_stored_pixels_of_a_turned_image_stay(tmp_path):
    save_image(tmp_path / "a.png", SIZE, 6)
    save_json(tmp_path / "a.json", labelme(shape()))
    annotated = only(find_labelme(tmp_path))
    assert annotated.masks["crack"][1:3, 1:4].sum() == annotated.masks["crack"].sum() == 6
    assert found(annotated.issues) == {UNTURNED: 1}


@pytest.mark.parametrize(
    ("document", "offence"),
    [
        ('{"shapes": [], "imagePath": "a.png"', "a.json: not JSON (Expecting"),
        ('{"shapes": [], "imagePath": "\udce9.png"}', "a.json: not UTF-8 ("),
        (labelme(shape(), name="b.png"), "a.json: shapes: image 'b.png' is not in"),
        (labelme(shape(), name="b.png", imageData="iVBO"), "but in imageData: save it there"),
        (labelme(shape(), name=None), "a.json: imagePath is None, not of type str"),
        (labelme(shape(), shapes={}), "a.json: shapes is {}, not of type list"),
        (labelme(shape(), size=(9, 6)), "a.json: shapes: a.png is (9, 6) there, (height, width), and (6, 9)"),
        (labelme(shape(), shape(3)), "a.json: shapes[1]: label is 3, not of type str"),
        (labelme(shape(), "x"), "a.json: shapes[1]: label is None, not of type str"),
        (labelme(shape(points=[(1, 2, 3)])), "[[1, 2, 3]] are no corners [[x, y], ...]"),
        (labelme(shape(points=["ab"])), "are no corners [[x, y], ...]"),
        (
            labelme(shape(points=[(0, 0), (0, float("nan")), (1, 1)])),
            "[[0, 0], [0, nan], [1, 1]] are no corners in pixels",
        ),
        (labelme(shape(points=[(0, 0), (0, 91), (1, 1)])), "a polygon reaches 91"),
        (labelme(shape(shape_type="cuboid")), "shapes[0] (a.png): shape_type 'cuboid' cannot be drawn"),
        (labelme(shape(shape_type="circle")), "a circle has 2 points, not 4"),
        (labelme(shape(points=[(1, 1), (2, 2)], shape_type="mask")), "mask is None, not of type str"),
        (
            labelme(shape(points=[(1, 1), (2, 2)], shape_type="mask", mask="?")),
            "its mask is no PNG in base64: ?",
        ),
        (labelme(), "no shape in 1 files of labelme, so there is no class"),
    ],
)
def test_labelme_refuses_with_file_place_and_value(tmp_path, document, offence):
    save_image(tmp_path / "a.png")
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError, match=re.escape(offence)) as caught:
        [*find_labelme(tmp_path).read()]
    assert "a.json" in str(caught.value) or str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labelme_mask_of_another_size_than_its_corners_is_refused(tmp_path):
    text = base64.b64encode(png(np.ones((2, 4), np.uint8))).decode()
    save_labelme(tmp_path, shape(points=[(1, 1), (6, 2)], shape_type="mask", mask=text))
    with pytest.raises(
        FormatError, match=re.escape("its mask is (2, 4), its corners [[1.0, 1.0], [6.0, 2.0]]")
    ):
        only(find_labelme(tmp_path))


def test_labelme_refuses_two_files_for_an_image(tmp_path):
    save_labelme(tmp_path, shape())
    save_json(tmp_path / "old" / "a.json", labelme(shape()))
    with pytest.raises(FormatError, match=r"a\.png is annotated in .*a\.json: shapes too; keep one"):
        find_labelme(tmp_path)


@pytest.mark.parametrize("document", [[1], {"images": [], "annotations": []}, {"shapes": []}, "{"])
def test_other_json_is_not_labelme_s(tmp_path, document):
    save_json(tmp_path / "a.json", document)
    assert find_labelme(tmp_path) is None


# writing labelme

INFO = DatasetInfo(
    name="steel",
    title="Steel",
    classes=(
        DefectClass(id=1, name="crack", colour=(255, 0, 0)),
        DefectClass(id=2, name="pit", colour=(0, 255, 0)),
    ),
)
RING = np.array(
    [
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 1],
    ],
    np.uint8,
)


def draw_as_labelme(points, size):
    """As labelme's own shape_to_mask: Pillow fills, and cuts the fractions off."""
    image = Image.fromarray(np.zeros(size, np.uint8))
    ImageDraw.Draw(image).polygon([tuple(point) for point in points], outline=1, fill=1)
    return np.array(image)


def test_outline_is_moved_into_the_pixels_that_it_runs_along():
    square = np.array([(1, 1), (4, 1), (4, 3), (1, 3)], float)
    inside = [[1.25, 1.25], [3.75, 1.25], [3.75, 2.75], [1.25, 2.75]]
    assert inset_outline(square).tolist() == inside
    assert inset_outline(square[::-1]).tolist() == inside[::-1]


def test_outline_that_turns_away_has_its_corner_cut():
    stairs = np.array([(0, 0), (4, 0), (4, 1), (2, 1), (2, 3), (0, 3)], float)
    moved = [[0.25, 0.25], [3.75, 0.25], [3.75, 0.75], [2.25, 0.75], [1.75, 1.25], [1.75, 2.75], [0.25, 2.75]]
    assert inset_outline(stairs).tolist() == moved


def test_masks_round_trip_through_labelme_and_are_the_same_to_its_own_tool(tmp_path):
    masks = np.stack([RING, np.zeros_like(RING)], axis=2)
    table = write_labelme([("a.png", masks), ("b.png", masks * 0)], INFO, tmp_path / "out")
    assert table.to_dict("records") == [
        {"ImageId": "a.png", "ClassId": 1, "pixels": 13, "lost": 0, "gained": 0}
    ]
    document = json.loads((tmp_path / "out" / "a.json").read_text())
    assert {key: value for key, value in document.items() if key != "shapes"} == {
        "version": "5.5.0",
        "flags": {},
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 5,
        "imageWidth": 7,
    }
    assert {(one["label"], one["shape_type"]) for one in document["shapes"]} == {("crack", "polygon")}
    drawn = np.bitwise_or.reduce([draw_as_labelme(one["points"], RING.shape) for one in document["shapes"]])
    np.testing.assert_array_equal(drawn, RING)
    assert json.loads((tmp_path / "out" / "b.json").read_text())["shapes"] == []
    for name in ("a.png", "b.png"):
        save_image(tmp_path / "out" / name, RING.shape)
    first, second = find_labelme(tmp_path / "out").read()
    np.testing.assert_array_equal(first.masks["crack"], RING)
    assert second.masks == {}


def test_random_masks_are_the_same_to_our_reader_and_to_labelme_s_tool(tmp_path):
    rng = np.random.default_rng(5)
    masks = {
        f"{n}.png": (rng.random((*shape, 2)) < density).astype(np.uint8)
        for n, (shape, density) in enumerate(
            [((7, 12), 0.3), ((12, 7), 0.7), ((1, 9), 0.5), ((23, 31), 0.5), ((40, 17), 0.9)]
        )
    }
    table = write_labelme(masks.items(), INFO, tmp_path)
    assert len(table) == 10
    assert table[["lost", "gained"]].sum().sum() == 0
    for name, mask in masks.items():
        for channel in (0, 1):
            outlines = [inset_outline(outline) for outline in mask_to_polygons(mask[:, :, channel])]
            drawn = np.bitwise_or.reduce([draw_as_labelme(outline, mask.shape[:2]) for outline in outlines])
            np.testing.assert_array_equal(drawn, mask[:, :, channel], err_msg=name)


def test_images_of_one_stem_cannot_both_be_labelme_s(tmp_path):
    masks = np.zeros((5, 7, 2), np.uint8)
    with pytest.raises(FormatError, match=r"A\.json: labelme looks there for a\.png and A\.jpg alike"):
        write_labelme([("a.png", masks), ("A.jpg", masks)], INFO, tmp_path)


def test_masks_of_other_classes_are_not_written(tmp_path):
    with pytest.raises(FormatError, match=r"a\.png: masks of 3 classes; steel has 2"):
        write_labelme([("a.png", np.zeros((5, 7, 3), np.uint8))], INFO, tmp_path)


# Supervisely

# Of Supervisely's own documentation; its mask is [[1, 1, 1], [1, 0, 0], [1, 1, 1]].
BITMAP = (
    "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44cOHAB6DqY0yO"
    "Rgq8YkAZBk9XP5d1TglNANAFGzA="
)
CLASSES = [
    {"title": "crack", "shape": "bitmap", "color": "#FF8000"},
    {"title": "pit", "shape": "polygon", "color": "#0a0B0c"},
]


def figure(kind="polygon", exterior=((1, 1), (3, 1), (3, 3)), interior=(), title="crack", **more):
    points = {"exterior": [*map(list, exterior)], "interior": [*interior]}
    return {"classTitle": title, "geometryType": kind, "points": points, **more}


def save_supervisely(home: Path, *objects, name="a.png", dataset="ds", size=SIZE):
    save_json(home / "meta.json", {"classes": CLASSES, "tags": []})
    save_image(home / dataset / "img" / name)
    size = {"height": size[0], "width": size[1]}
    save_json(home / dataset / "ann" / f"{name}.json", {"size": size, "tags": [], "objects": [*objects]})


def test_supervisely_s_whole_numbers_are_pixels_and_outlines_belong_to_the_shape(tmp_path):
    ring = figure(exterior=[(1, 1), (5, 1), (5, 5), (1, 5)], interior=[[[2, 2], [4, 2], [4, 4], [2, 4]]])
    save_supervisely(tmp_path, ring, figure("rectangle", [(7, 0), (8, 1)]))
    source = find_supervisely(tmp_path)
    assert (source.format, source.classes, source.notes) == ("supervisely", ("crack", "pit"), (CLEAN,))
    assert source.colours == ((255, 128, 0), (10, 11, 12))
    annotated = only(source)
    assert rows_of(annotated.masks["crack"]) == [
        "000000011",
        "011111011",
        "010001000",
        "010001000",
        "010001000",
        "011111000",
    ]
    assert (annotated.shape, annotated.part, found(annotated.issues)) == (SIZE, "", {})


def test_supervisely_s_fractions_count_along_the_edges_of_pixels(tmp_path):
    save_supervisely(tmp_path, figure("rectangle", [(1.4, 1.0), (3.6, 3.0)], title="pit"))
    assert rows_of(only(find_supervisely(tmp_path)).masks["pit"])[:4] == [
        "000000000",
        "011100000",
        "011100000",
        "000000000",
    ]


@pytest.mark.parametrize("is_packed", [True, False])
def test_supervisely_s_bitmap_lies_at_its_origin(tmp_path, is_packed):
    text = BITMAP if is_packed else base64.b64encode(zlib.decompress(base64.b64decode(BITMAP))).decode()
    bitmap = {"classTitle": "crack", "geometryType": "bitmap", "bitmap": {"data": text, "origin": [5, 2]}}
    save_supervisely(tmp_path, bitmap)
    assert rows_of(only(find_supervisely(tmp_path)).masks["crack"])[2:] == [
        "000001110",
        "000001000",
        "000001110",
        "000000000",
    ]


def test_supervisely_s_parts_are_one_object_and_kinds_may_stand_in_meta_json_alone(tmp_path):
    square = {"exterior": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    other = {"exterior": [[7, 4], [8, 4], [8, 5], [7, 5]], "interior": []}
    both = {"classTitle": "crack", "geometryType": "multipolygon", "parts": [square, other]}
    save_supervisely(tmp_path, both, {"classTitle": "pit", "points": {"exterior": [[4, 2], [6, 2], [6, 2]]}})
    masks = only(find_supervisely(tmp_path)).masks
    assert rows_of(masks["crack"]) == ["110000000", "110000000", *["000000000"] * 2, "000000011", "000000011"]
    assert rows_of(masks["pit"])[2] == "000011100"


def test_supervisely_s_lines_and_what_leaves_the_image_are_counted(tmp_path):
    lines = [figure(kind, [(0, 0), (5, 5)]) for kind in ("line", "point")]
    outside = [figure(exterior=[(7, 0), (12, 0), (12, 1), (7, 1)]), figure("rectangle", [(0, 5), (0, 7)])]
    save_supervisely(tmp_path, *lines, *outside, figure(exterior=[(0, 0), (3, 3)]))
    annotated = only(find_supervisely(tmp_path))
    assert found(annotated.issues) == {NO_AREA: 2, OUTSIDE: 2, SHORT: 1}
    rows = ["000000011", "000000011", *["000000000"] * 3, "100000000"]
    assert rows_of(annotated.masks["crack"]) == rows


def test_supervisely_s_datasets_tell_the_part_and_may_share_names(tmp_path):
    for dataset in ("train", "val", "test"):
        save_supervisely(tmp_path / "project", figure(), dataset=dataset)
    save_image(tmp_path / "project" / "test" / "img" / "z.png")
    annotated = [*find_supervisely(tmp_path).read()]
    assert [one.part for one in annotated] == ["test", "test", "train", "train"]
    assert [one.masks is None for one in annotated] == [False, True, False, False]


def test_supervisely_s_one_dataset_may_be_the_folder_itself_and_names_may_lack_the_suffix(tmp_path):
    save_supervisely(tmp_path, figure(), dataset=".")
    (tmp_path / "ann" / "a.png.json").rename(tmp_path / "ann" / "a.json")
    (tmp_path / "ann" / "._a.json").write_bytes(b"\0")
    save_image(tmp_path / "masks_human" / "a.png")
    source = find_supervisely(tmp_path)
    assert only(source).image == tmp_path / "img" / "a.png"


@pytest.mark.parametrize(
    ("record", "offence"),
    [
        (figure(title="hole"), "has the class 'hole'; meta.json has: crack, pit"),
        (figure("cuboid"), "geometryType 'cuboid' cannot be drawn as a mask"),
        (figure("rectangle"), "a rectangle has 2 points, not 3"),
        (figure(exterior=[(0, 0), (0, 99), (1, 1)]), "a polygon reaches 99"),
        (figure("bitmap"), "bitmap is None, not of type dict"),
        (figure("bitmap", bitmap={"data": "", "origin": [0, 0]}), "its mask is no PNG in base64"),
        (figure("bitmap", bitmap={"data": BITMAP, "origin": [0]}), "[[0]] are no corners"),
        ({"classTitle": "pit"}, "points is None, not of type dict"),
        (7, "classTitle is None, not of type str"),
    ],
)
def test_supervisely_refuses_with_file_place_and_value(tmp_path, record, offence):
    save_supervisely(tmp_path, figure(), record)
    with pytest.raises(FormatError, match=re.escape(offence)) as caught:
        only(find_supervisely(tmp_path))
    assert "a.png.json: objects" in str(caught.value)


def test_supervisely_refuses_another_size_a_missing_image_and_two_projects(tmp_path):
    save_supervisely(tmp_path / "one", figure(), size=(9, 6))
    with pytest.raises(FormatError, match=r"a\.png is \(9, 6\) there"):
        only(find_supervisely(tmp_path))
    (tmp_path / "one" / "ds" / "img" / "a.png").rename(tmp_path / "one" / "ds" / "img" / "b.png")
    with pytest.raises(FormatError, match=r"ann/a\.png\.json: objects: image 'a\.png' is not in"):
        find_supervisely(tmp_path)
    save_supervisely(tmp_path / "two", figure())
    with pytest.raises(FormatError, match="holds 2 projects of Supervisely"):
        find_supervisely(tmp_path)


def test_a_meta_json_alone_is_no_project(tmp_path):
    save_json(tmp_path / "meta.json", {"classes": CLASSES})
    assert find_supervisely(tmp_path) is None
    assert find_supervisely(tmp_path / "meta.json") is None


# Label Studio

# By hand: 8 words of 8 bits, lengths of 3, 4, 8 or 16 bits; 4 times 0 (1 00 011), 4 times 255 (1 00 011).
TWO_PIXELS = [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]


def pack_brush(words, sizes=(3, 4, 8, 16), longest=1 << 16):
    """As @thi.ng/rle-pack's README describes it: runs of two and more, single words in blocks."""
    bits = f"{len(words):032b}00111" + "".join(f"{n - 1:04b}" for n in sizes)

    def block(flag, n):
        size = next(i for i, n_bits in enumerate(sizes) if n <= 1 << n_bits)
        return f"{flag}{size:02b}{n - 1:0{sizes[size]}b}"

    at = 0
    while at < len(words):
        n = 1
        while at + n < len(words) and words[at + n] == words[at] and n < longest:
            n += 1
        if n > 1:
            bits += block(1, n) + f"{words[at]:08b}"
        else:
            while at + n < len(words) and words[at + n] != words[at + n - 1] and n < 5:
                n += 1
            bits += block(0, n) + "".join(f"{word:08b}" for word in words[at : at + n])
        at += n
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def brush(mask, label="crack", **more):
    layers = np.zeros((*mask.shape, 4), np.uint8)
    layers[:, :, 1], layers[:, :, 3] = 7, mask * 200
    rle = pack_brush(layers.ravel().tolist())
    return region("brushlabels", {"format": "rle", "rle": rle, "brushlabels": [label]}, **more)


def region(kind, value, size=SIZE, **more):
    told = {"original_height": size[0], "original_width": size[1], "image_rotation": 0}
    return {"id": "r1", "type": kind, "from_name": "tag", "to_name": "image", "value": value, **told, **more}


def polygon(points, label="crack", **more):
    return region("polygonlabels", {"points": points, "closed": True, "polygonlabels": [label], **more})


def task(*results, image="/data/upload/3/0a1b2c3d-a.png", **more):
    return {"id": 1, "annotations": [*results], "data": {"image": image}, **more}


def work(*regions, **more):
    return {"id": 5, "result": [*regions], "was_cancelled": False, **more}


def save_studio(folder: Path, *tasks, name="a.png"):
    save_image(folder / name)
    save_json(folder / "project-1.json", [*tasks])


def test_brush_of_two_pixels_packed_by_hand_is_unpacked():
    assert unpack_brush(TWO_PIXELS, 8).tolist() == [False] * 4 + [True] * 4
    assert pack_brush([0] * 4 + [255] * 4) == TWO_PIXELS


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 16, 17, 256, 257, 65536, 65537, 70001])
def test_runs_of_every_length_are_unpacked(n):
    words = [3, 0, 9, 0, 0, *[200] * n, 0]
    assert unpack_brush(pack_brush(words), len(words)).tolist() == [word > 0 for word in words]


def test_words_and_lengths_may_have_other_sizes():
    # 3 words of 2 bits (00001), lengths of 1, 2, 3, 4 bits; a block of three words: 0 01 10 | 10 00 01
    bits = f"{3:032b}" + "00001" + "0000" + "0001" + "0010" + "0011" + "00110" + "100001" + "0" * 8
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8)]
    assert unpack_brush(rle, 3).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("rle", "n", "offence"),
    [
        (TWO_PIXELS, 12, "rle holds 8 words; the image has 12, four for each pixel"),
        (TWO_PIXELS[:-1], 8, "rle ends in the middle of a block, after 10 bytes"),
        (TWO_PIXELS[:3], 8, "rle ends in the middle of a block, after 3 bytes"),
        ([0, 0, 0, 7, *TWO_PIXELS[4:]], 7, "rle has a block of the words 4 to 8 of 7"),
        ([256], 8, "rle is no list of bytes: [256]"),
        ([-1], 8, "rle is no list of bytes: [-1]"),
        (["x"], 8, "rle is no list of bytes: ['x']"),
    ],
)
def test_broken_runs_of_a_brush_are_refused(rle, n, offence):
    with pytest.raises(FormatError, match=re.escape(offence)):
        unpack_brush(rle, n)


def test_label_studio_s_brush_is_where_it_is_opaque(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[1:3, 4:8] = mask[5, 0] = 1
    save_studio(tmp_path, task(work(brush(mask))))
    source = find_label_studio(tmp_path)
    assert (source.format, source.classes, source.colours) == ("label studio", ("crack",), ())
    annotated = only(source)
    np.testing.assert_array_equal(annotated.masks["crack"], mask)
    assert found(annotated.issues) == {}
    assert {NO_AREA, UNNAMED, ANSWERS, FURTHER} <= annotated.issues.keys()


def test_label_studio_s_polygons_and_rectangles_are_in_percent(tmp_path):
    ninth, sixth = 100 / 9, 100 / 6
    points = [[ninth, sixth], [4 * ninth, sixth], [4 * ninth, 3 * sixth], [ninth, 3 * sixth]]
    box = {"x": 6 * ninth, "y": 4 * sixth, "width": 3 * ninth, "height": 2 * sixth, "rotation": 0}
    rectangle = region("rectanglelabels", {**box, "rectanglelabels": ["pit", "crack"]})
    save_studio(tmp_path, task(work(polygon(points), rectangle)))
    source = find_label_studio(tmp_path)
    assert source.classes == ("crack", "pit")
    assert rows_of(only(source).masks["crack"]) == [
        "000000000",
        "011100000",
        "011100000",
        "000000000",
        "000000111",
        "000000111",
    ]
    assert only(source).masks["pit"].sum() == 6


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("/data/upload/3/0a1b2c3d-a.png", "a.png"),
        ("/data/upload/3/0a1b2c3d-a.png", "0a1b2c3d-a.png"),
        ("/data/local-files/?d=line%201/a.png", "line 1/a.png"),
        ("https://host/store/a.png?key=1&name=x", "a.png"),
        ("s3://store/a.png", "a.png"),
        ("a b=1.png", "a b=1.png"),
    ],
)
def test_label_studio_s_image_is_found_by_its_address(tmp_path, told, name):
    save_studio(tmp_path, task(work(polygon([[0, 0], [50, 0], [50, 50]])), image=told), name=name)
    assert only(find_label_studio(tmp_path)).image == tmp_path / name


def test_label_studio_s_image_is_the_uploaded_one_where_both_names_are_there(tmp_path):
    save_image(tmp_path / "a.png")
    save_studio(tmp_path, task(work(polygon([[0, 0], [50, 0], [50, 50]]))), name="0a1b2c3d-a.png")
    assert [one.masks is None for one in find_label_studio(tmp_path).read()] == [False, True]


def test_label_studio_s_cancelled_and_further_annotations_are_left_out(tmp_path):
    works = [work(polygon([[0, 0], [n, 0], [n, 100], [0, 100]])) for n in (100, 34, 67)]
    works[0]["was_cancelled"] = True
    save_studio(tmp_path, task(*works))
    annotated = only(find_label_studio(tmp_path))
    assert rows_of(annotated.masks["crack"]) == ["111000000"] * 6
    assert annotated.issues[FURTHER] == 1
    works[2]["ground_truth"] = True
    save_studio(tmp_path, task(*works))
    assert rows_of(only(find_label_studio(tmp_path)).masks["crack"]) == ["111111000"] * 6


def test_label_studio_s_task_without_an_annotation_is_nobody_s_and_an_empty_one_is_clean(tmp_path):
    for name in ("b.png", "c.png"):
        save_image(tmp_path / name)
    triangle = task(work(polygon([[0, 0], [50, 0], [50, 50]])))
    cancelled = task(work(was_cancelled=True), image="b.png")
    save_studio(tmp_path, triangle, cancelled, task(work(), image="c.png"))
    masks = [one.masks for one in find_label_studio(tmp_path).read()]
    assert [len(masks[0]), masks[1], masks[2]] == [1, None, {}]


def test_label_studio_s_regions_that_mark_no_area_are_counted(tmp_path):
    mark = {"x": 10, "y": 10, "width": 1}
    triangle = [[0, 0], [50, 0], [50, 50]]
    twin = region("polygon", {"points": triangle}) | {"id": "r9"}
    regions = [
        region("keypointlabels", {**mark, "keypointlabels": ["crack"]}, id="k"),
        region("vectorlabels", {"vertices": [], "vectorlabels": ["crack"]}, id="v"),
        region("choices", {"choices": ["bad"]}, id="c"),
        {"from_id": "k", "to_id": "v", "type": "relation"},
        region("polygon", {"points": triangle}, id="u"),
        twin,
        {**region("labels", {"points": triangle, "labels": ["pit"]}), "id": "r9"},
    ]
    save_studio(tmp_path, task(work(*regions)))
    annotated = only(find_label_studio(tmp_path))
    assert found(annotated.issues) == {NO_AREA: 2, ANSWERS: 2, UNNAMED: 1}
    assert [*annotated.masks] == ["pit"]


RECTANGLE = {"x": 0, "y": 0, "width": 50, "height": 50}


@pytest.mark.parametrize(
    ("one", "offence"),
    [
        (
            region("rectanglelabels", {**RECTANGLE, "rotation": 9, "rectanglelabels": ["a"]}),
            "rotation is not read",
        ),
        (polygon([[0, 0]]) | {"image_rotation": 90}, "image_rotation is not read"),
        (
            region("ellipselabels", {"x": 1, "radiusX": 2, "ellipselabels": ["a"]}),
            "a region of the type 'ellipselabels' is not read",
        ),
        (polygon([[0, 0]]) | {"original_width": 8}, "a.png is (6, 8) there"),
        (polygon("ab"), "points is 'ab', not of type list"),
        (region("brushlabels", {"rle": [1], "brushlabels": ["a"]}), "rle ends in the middle"),
        (
            region("rectanglelabels", {**RECTANGLE, "x": "1", "rectanglelabels": ["a"]}),
            "x is '1', not of type int or float",
        ),
    ],
)
def test_label_studio_refuses_a_region_with_its_place(tmp_path, one, offence):
    save_studio(tmp_path, task(work(one)))
    with pytest.raises(FormatError, match=re.escape(offence)) as caught:
        only(find_label_studio(tmp_path))
    assert "project-1.json: [0]: regions" in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "offence"),
    [
        ([task(work(), image="b.png")], "project-1.json: [0]: regions: image 'b.png' is not in"),
        ([task(work(), image="words")], "project-1.json: [0]: regions: image '' is not in"),
        ([task(work(polygon([[0, 0]])))] * 2, "a.png is annotated in"),
        (
            [task(work(polygon([[0, 0]]), polygon([[0, 0]]) | {"original_height": 5}))],
            "images of different sizes",
        ),
        ([task(work())], "no task has a region with a label"),
        ([task(work(), data=[])], "[0]: data is [], not of type dict"),
        ([task({"result": 1})], "[0]: result is 1, not of type list"),
        (
            [{"image": "a.png", "tag": [{"original_width": 9}], "annotation_id": 1}],
            "Label Studio's JSON-MIN; export it as JSON",
        ),
    ],
)
def test_label_studio_refuses_a_task_with_its_place(tmp_path, tasks, offence):
    save_studio(tmp_path, *tasks)
    with pytest.raises(FormatError, match=re.escape(offence)) as caught:
        only(find_label_studio(tmp_path))
    assert "project-1.json" in str(caught.value)


@pytest.mark.parametrize(
    "document", [{"annotations": [], "result": 1}, [{"image": "a.png", "annotations": []}], "["]
)
def test_other_lists_are_not_label_studio_s(tmp_path, document):
    save_json(tmp_path / "a.json", document)
    assert find_label_studio(tmp_path) is None


def test_a_mask_that_unpacks_to_gigabytes_is_refused_before_it_does(monkeypatch):
    monkeypatch.setenv("DEFECTMILL_MEGAPIXELS", "0.01")
    bomb = base64.b64encode(zlib.compress(b"\x89PNG" + bytes(20_000_000))).decode()
    tracemalloc.start()
    with pytest.raises(DefectmillError, match="mask: not a readable image"):
        decode_patch(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_json_of_brackets_without_end_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError, match=r"a\.json: not JSON \(brackets in brackets without end\)"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("corners", [[[1, 2], [3, "NaN"]], [[1, 2], [float("inf"), 4]], [[1, 2], [1e300, 4]]])
def test_corners_that_are_no_pixels_are_refused(corners):
    with pytest.raises(FormatError, match="are no corners in pixels"):
        read_corners(corners)


@pytest.mark.parametrize("odd", [{"id": [0]}, {"id": {}}, {"id": 0.5}])
def test_a_region_whose_id_is_none_is_refused(tmp_path, odd):
    square = {"points": [[10, 10], [60, 10], [60, 60]], "polygonlabels": ["pit"]}
    region = {"type": "polygonlabels", "value": square} | odd
    task = {"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}
    write_image(tmp_path / "a.png", np.zeros((9, 14), np.uint8))
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    with pytest.raises(FormatError, match=r"tasks\.json: \[0\]: regions: id is .*, not of type str or int"):
        list(find_label_studio(tmp_path).read())


@pytest.mark.parametrize("number", [10**400, -(10**10), float("nan"), float("inf")])
def test_a_box_beyond_all_images_is_refused(tmp_path, number):
    box = {"x": number, "y": 1, "width": 2, "height": 3, "rectanglelabels": ["pit"]}
    region = {"type": "rectanglelabels", "value": box}
    task = {"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}
    write_image(tmp_path / "a.png", np.zeros((9, 14), np.uint8))
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    with pytest.raises(FormatError, match=r"x is .*, no place in an image"):
        list(find_label_studio(tmp_path).read())
