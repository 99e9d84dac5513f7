"""Polygons <-> masks, images found by name, splits, and the table of what a format loses."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_masks

from defectmill.dataset_info import DatasetInfo
from defectmill.formats.shapes import (
    FAINT,
    NO_CLASS,
    OUTSIDE,
    SHORT,
    FormatError,
    draw_instances,
    find_pictures,
    find_split,
    is_background,
    make_loss_table,
    mask_to_polygons,
    name_parts,
    pack_masks,
    polygons_to_mask,
    turn_to_stored,
)
from defectmill.images import turn_upright, write_image

KINDS = [{"id": 1, "name": "crack", "colour": (255, 0, 0)}, {"id": 2, "name": "pit", "colour": (0, 255, 0)}]
INFO = DatasetInfo.model_validate({"name": "plate", "title": "Plate", "classes": KINDS})


def draw(*rows: str) -> np.ndarray:
    """A mask of text: # is 1."""
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


def square(x: float, y: float, size: float) -> np.ndarray:
    return np.array([(x, y), (x + size, y), (x + size, y + size), (x, y + size)])


def test_polygon_along_pixel_edges_fills_its_pixels():
    expected = draw("......", ".###..", ".###..", "......")
    outline = np.array([(1, 1), (4, 1), (4, 3), (1, 3)])
    np.testing.assert_array_equal(polygons_to_mask([outline], (4, 6)), expected)


def test_pixel_is_drawn_where_its_middle_is_inside():
    outline = np.array([(0.4, 0), (2.6, 0), (2.6, 1), (0.4, 1)])
    np.testing.assert_array_equal(polygons_to_mask([outline], (2, 4)), draw("###.", "...."))
    outline = np.array([(0.6, 0), (2.4, 0), (2.4, 1), (0.6, 1)])
    np.testing.assert_array_equal(polygons_to_mask([outline], (2, 4)), draw(".#..", "...."))


def test_no_polygons_are_an_empty_mask():
    mask = polygons_to_mask([], (3, 5))
    assert (mask.shape, mask.dtype, mask.any()) == ((3, 5), np.uint8, False)


def test_overlapping_polygons_are_one_mask():
    mask = polygons_to_mask([square(0, 0, 2), square(1, 1, 2)], (3, 4))
    np.testing.assert_array_equal(mask, draw("##..", "###.", ".##."))


def test_polygon_is_cut_off_at_the_edge_of_its_image():
    np.testing.assert_array_equal(polygons_to_mask([square(-2, 1, 4)], (3, 4)), draw("....", "##..", "##.."))


@pytest.mark.parametrize("value", [41, -41, 1e12, np.inf, np.nan])
def test_polygon_in_other_units_is_refused_with_its_value(value):
    with pytest.raises(FormatError, match=re.escape(f"reaches {value:g}; pixels of an image of (3, 4)")):
        polygons_to_mask([np.array([(0, 0), (2, 0), (2, value)])], (3, 4))


def test_outline_runs_along_pixel_edges_and_has_corners_only():
    (outline,) = mask_to_polygons(draw(".....", ".##..", ".###."))
    assert outline.dtype == float
    corners = {(1, 1), (3, 1), (3, 2), (4, 2), (4, 3), (1, 3)}
    assert sorted(map(tuple, outline.tolist())) == sorted(corners)


def test_hole_is_joined_by_a_bridge_of_no_width():
    ring = draw("####", "#.##", "####")
    (outline,) = mask_to_polygons(ring)
    # Down to the hole's height, along its upper edge, around it and back, then on.
    expected = [(0, 0), (0, 1), (2, 1), (2, 2), (1, 2), (1, 1), (0, 1), (0, 3), (4, 3), (4, 0)]
    assert [tuple(point) for point in outline.tolist()] == expected
    np.testing.assert_array_equal(polygons_to_mask([outline], (3, 4)), ring)


CASES = {
    "empty": draw("....", "...."),
    "full": draw("#####", "#####"),
    "one pixel in a corner": draw("...", "...", "...", "..#"),
    "diagonal touch": draw("#..", ".#.", "..#", ".#."),
    "two holes in a row": draw("#######", "#.#.#.#", "#######"),
    "holes that touch at a corner": draw("#####", "#.###", "##.##", "###.#", "#####", "#####"),
    "hole that touches the outside at a corner": draw(".####", "#.###", "#####"),
    "island in a hole": draw("#######", "#.....#", "#..#..#", "#.....#", "#######"),
    "hole in an island in a hole": draw(
        "#########", "#.......#", "#.#####.#", "#.#...#.#", "#.#.#.#.#", "#.#####.#", "#.......#", "#########"
    ),
    "comb": draw("#.#.#.#", "#.#.#.#", "#######"),
}


@pytest.mark.parametrize("mask", CASES.values(), ids=CASES.keys())
def test_outlines_draw_the_mask_again(mask):
    outlines = mask_to_polygons(mask)
    assert len(outlines) == cv2.connectedComponents(mask, connectivity=8)[0] - 1
    np.testing.assert_array_equal(polygons_to_mask(outlines, mask.shape), mask)


def test_outlines_of_random_masks_draw_them_again():
    rng = np.random.default_rng(5)
    for _ in range(400):
        height, width = rng.integers(1, 14, 2)
        mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        outlines = mask_to_polygons(mask)
        assert len(outlines) == cv2.connectedComponents(mask, connectivity=8)[0] - 1
        np.testing.assert_array_equal(polygons_to_mask(outlines, (height, width)), mask)


def test_outline_encloses_the_area_of_its_pixels_without_the_hole():
    ring = draw("#######", "#######", "##...##", "##...##", "#######", "#######")
    (outline,) = mask_to_polygons(ring)
    x, y = outline.T  # the shoelace formula
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == ring.sum() == 36


def test_instances_of_a_class_are_one_mask_and_oddities_are_counted():
    runs = coco_masks.encode(np.asfortranarray(draw("....#", "....#", ".....")))
    instances = [
        ("crack", [square(0, 0, 2)]),
        ("crack", [runs, square(1, 1, 2)]),
        ("pit", [square(-1, -1, 2), np.array([(1, 1), (2, 2)])]),
        ("scratch", [square(1.1, 1.1, 0.3)]),
        ("dent", [np.array([(1, 1)])]),
        ("Background", [square(0, 0, 3)]),
    ]
    masks, issues = draw_instances(instances, (3, 5))
    assert list(masks) == ["crack", "pit", "scratch"]
    np.testing.assert_array_equal(masks["crack"], draw("##..#", "###.#", ".##.."))
    np.testing.assert_array_equal(masks["pit"], draw("#....", ".....", "....."))
    assert not masks["scratch"].any()
    assert issues == {SHORT: 2, OUTSIDE: 1, FAINT: 1, NO_CLASS: 1}


def test_no_instances_are_no_masks_and_nothing_odd():
    assert draw_instances([], (3, 5)) == ({}, {SHORT: 0, OUTSIDE: 0, FAINT: 0, NO_CLASS: 0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("background", True), ("_Background_", True), ("back", False), ("background dirt", False)],
)
def test_background_is_no_class(name, expected):
    assert is_background(name) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_of_the_upright_image_turn_back_to_stored_pixels(orientation):
    stored = draw("##..", "#...", "...#")
    upright = turn_upright(stored[:, :, None], orientation)[:, :, 0]
    np.testing.assert_array_equal(turn_to_stored({"pit": upright}, orientation)["pit"], stored)


def add_images(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.zeros((2, 3), np.uint8))


def test_pictures_are_all_images_below_but_hidden_ones(tmp_path):
    add_images(tmp_path, "b.png", "a/c.JPG", "a/.c.jpg", ".cache/d.png", "__MACOSX/e.png")
    (tmp_path / "a" / "notes.txt").write_text("")
    assert find_pictures(tmp_path).files == (tmp_path / "a" / "c.JPG", tmp_path / "b.png")


def test_picture_is_found_by_name_whatever_its_suffix_s_case_and_its_accents(tmp_path):
    add_images(tmp_path, "images/Riß e\u0301.JPG")
    pictures = find_pictures(tmp_path)
    found = tmp_path / "images" / "Riß e\u0301.JPG"
    for name in ("Riß \u00e9.jpg", "images/Riß \u00e9.JPG", "C:\\data\\Riß e\u0301.Jpg"):
        assert pictures.find(name, tmp_path / "a.json") == found
    for name in ("riß \u00e9.jpg", "Riß \u00e9.png", "", "images"):
        assert pictures.find(name, tmp_path / "a.json") is None


def test_of_pictures_of_one_name_folders_then_split_then_place_decide(tmp_path):
    add_images(tmp_path, "train/a.png", "valid/a.png", "test/a.png", "test/more/a.png")
    pictures = find_pictures(tmp_path)
    assert pictures.find("valid/a.png", tmp_path / "train.json") == tmp_path / "valid" / "a.png"
    assert pictures.find("x/more/a.png", tmp_path / "a.json") == tmp_path / "test" / "more" / "a.png"
    assert pictures.find("a.png", tmp_path / "annotations" / "val.json") == tmp_path / "valid" / "a.png"
    assert pictures.find("a.png", tmp_path / "train" / "a.json") == tmp_path / "train" / "a.png"
    assert pictures.find("a.png", tmp_path / "test" / "more" / "a.json") == tmp_path / "test/more/a.png"


def test_picture_that_may_be_two_is_refused_with_both(tmp_path):
    add_images(tmp_path, "one/a.png", "two/a.png")
    message = f"all.json: image 'a.png' may be {tmp_path}/one/a.png or {tmp_path}/two/a.png"
    with pytest.raises(FormatError, match=re.escape(message)):
        find_pictures(tmp_path).find("a.png", tmp_path / "all.json")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["instances_train2017.json"], "train"),
        (["images", "val"], "valid"),
        (["test", "Validation"], "valid"),
        (["testing-set", "images"], "test"),
        (["contest", "trained", "images"], ""),
        ([], ""),
    ],
)
def test_split_is_a_word_of_a_folder_or_file(names, split):
    assert find_split(names) == split


def test_parts_are_told_where_there_is_more_than_one_split(tmp_path):
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    assert name_parts({a: "train", b: "valid", c: "test"}) == {a: "train", b: "train", c: "test"}
    assert name_parts({a: "test", b: "test"}) == {a: "", b: ""}
    assert name_parts({}) == {}


def test_loss_table_counts_pixels_lost_and_gained_of_masks_that_are_there():
    masks = np.stack([draw("##..", "#..."), draw("....", "....")], axis=2)
    packed = pack_masks("a.png", masks, INFO)
    read = {"crack": draw(".##.", "#.#.")}
    table = make_loss_table([("a.png", packed, read), ("b.png", packed, {})], INFO)
    expected = [("a.png", 1, 3, 1, 2), ("b.png", 1, 3, 3, 0)]
    columns = ["ImageId", "ClassId", "pixels", "lost", "gained"]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=columns))


def test_class_that_is_gained_alone_is_told_and_an_empty_table_has_its_types():
    packed = pack_masks("a.png", np.zeros((2, 3, 2), np.uint8), INFO)
    table = make_loss_table([("a.png", packed, {"pit": draw("#..", "...")})], INFO)
    assert table.to_numpy().tolist() == [["a.png", 2, 0, 0, 1]]
    empty = make_loss_table([("a.png", packed, {})], INFO)
    assert empty.empty
    pd.testing.assert_series_equal(empty.dtypes, table.dtypes)


def test_masks_of_another_number_of_classes_are_refused():
    with pytest.raises(FormatError, match=r"a\.png: masks of 3 classes; plate has 2"):
        pack_masks("a.png", np.zeros((2, 4, 3), np.uint8), INFO)
