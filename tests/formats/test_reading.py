"""Shapes, patches, colours and files that all formats share; the formats' own tests read whole images."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from defectmill.formats.reading import (
    CUT,
    list_files,
    located,
    outline_box,
    outline_ellipse,
    pack_patch,
    parse_colours,
)
from defectmill.formats.shapes import FormatError


def test_box_is_turned_clockwise_about_its_middle():
    assert outline_box((1, 5), (4, 2)).tolist() == [[1, 5], [4, 5], [4, 2], [1, 2]]
    turned = outline_box((1, 2), (5, 4), 90)
    np.testing.assert_allclose(turned, [[4, 1], [4, 5], [2, 5], [2, 1]], atol=1e-12)


def test_ellipse_has_a_corner_for_each_degree_and_starts_on_the_right():
    outline = outline_ellipse((4, 3), (2, 1))
    assert outline.shape == (360, 2)
    np.testing.assert_allclose(outline[[0, 90, 180, 270]], [[6, 3], [4, 4], [2, 3], [4, 2]], atol=1e-12)
    np.testing.assert_allclose(outline_ellipse((4, 3), (2, 1), 90)[0], [4, 5], atol=1e-12)


@pytest.mark.parametrize(
    ("corner", "expected", "n_cut"),
    [
        ((1, 2), ["00000", "00000", "01110", "00100"], 0),
        ((3, 3), ["00000", "00000", "00000", "00011"], 1),
        ((-2, -1), ["00000", "00000", "00000", "00000"], 1),
        ((-1, 0), ["11000", "10000", "00000", "00000"], 1),
        ((5, 4), ["00000", "00000", "00000", "00000"], 1),
    ],
)
def test_patch_is_cut_off_at_the_edges_and_that_is_counted(corner, expected, n_cut):
    issues: dict[str, int] = {}
    runs = pack_patch(np.array([[1, 1, 1], [0, 1, 0]], np.uint8), corner, (4, 5), issues)
    assert ["".join(map(str, row)) for row in coco_masks.decode(runs).tolist()] == expected
    assert issues == {CUT: n_cut}


def test_colours_are_read_all_or_none():
    assert parse_colours(["#ff8000", "#0A0b0C"]) == ((255, 128, 0), (10, 11, 12))
    for other in ("", None, "red", "#ff80001", "#gg8000"):
        assert parse_colours(["#ff8000", other]) == ()


def test_files_of_a_suffix_are_sorted_without_hidden_ones(tmp_path):
    for name in ("b.JSON", "a.json", "x/c.json", ".d.json", "__MACOSX/e.json", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.json").mkdir()
    assert [path.name for path in list_files(tmp_path, ".json")] == ["a.json", "b.JSON", "c.json"]
    assert list_files(tmp_path / "a.json", ".json") == [tmp_path / "a.json"]
    assert list_files(tmp_path / "f.txt", ".json") == []


def test_places_are_put_before_an_error():
    with pytest.raises(FormatError, match=r"^a: b: c$"), located("a"), located("b"):
        raise FormatError("c")
