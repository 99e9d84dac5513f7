"""What a line asks: region of interest, sizes in millimetres, OK or NG."""

import json

import numpy as np
import pandas as pd
import pytest

import defectmill
from defectmill.config import ConfigError, load_experiment
from defectmill.files import DefectmillError
from defectmill.images import write_image
from defectmill.prediction.line import check_line, judge, measure, read_region, restrict
from defectmill.settings import LineSettings
from fake_maps import write_dark_finder


def component(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("drawn", "length", "width"),
    [
        (component("#"), 1, 1),
        (component("######"), 6, 1),
        (component("#####", "#####"), 5, 2),
        (component(*["#######"] * 3), 7, 3),
        (component("#", "#", "#", "#"), 4, 1),
        (component("########", "#.......", "#.......", "#......."), 11, 1),  # bent: along its middle
        (component("....#....", "....#....", "....#....", "....#....", "#########"), 12, 1),  # branched
    ],
    ids=str,
)
def test_length_and_width_of_drawn_components(drawn, length, width):
    assert measure(drawn) == pytest.approx((length, width), abs=0.75)


def test_a_disc_is_as_long_as_wide_and_a_ring_as_wide_as_its_rim():
    rows, columns = np.mgrid[-20:21, -20:21]
    radius = np.hypot(rows, columns)
    assert measure((radius <= 15.5).astype(np.uint8)) == pytest.approx((31, 31), abs=1.5)
    ring = ((radius <= 15.5) & (radius > 11.5)).astype(np.uint8)
    assert measure(ring)[1] == pytest.approx(4, abs=0.7)


def test_a_region_is_a_picture_or_polygons_whose_outline_belongs_to_it(tmp_path):
    drawn = np.zeros((4, 6), np.uint8)
    drawn[1:3, 2:5] = 255
    write_image(tmp_path / "a.png", drawn[:, :, None])
    (tmp_path / "a.json").write_text("[[[2, 1], [4, 1], [4, 2], [2, 2]]]")
    for name in ("a.png", "a.json"):
        np.testing.assert_array_equal(read_region(tmp_path / name, (4, 6)), drawn > 0)
    (tmp_path / "two.json").write_text("[[[0, 0], [3, 0], [3, 3], [0, 3]], [[2, 2], [5, 2], [5, 3], [2, 3]]]")
    both = np.zeros((4, 6), np.uint8)
    both[:, :4] = both[2:, 2:] = 1
    np.testing.assert_array_equal(read_region(tmp_path / "two.json", (4, 6)), both)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not polygons"),
        ("[[1, 2], [3, 4], [5, 6]]", r"a polygon of shape \(2,\)"),
        ("[[[1, 2], [3, 4]]]", r"a polygon of shape \(2, 2\)"),
        ('[[["a", 2], [3, 4], [5, 6]]]', "not polygons"),
        ("[[[100, 100], [110, 100], [110, 110]]]", "no pixel of pictures of 4 x 6 lies in the region"),
        ("[]", "no pixel"),
        ("7", "not polygons"),
        ("[[[1e99, 0], [3, 4], [5, 6]]]", "a point at 1e[+]99, which is in no picture"),
        ("[[[NaN, 0], [3, 4], [5, 6]]]", "a point at nan"),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(tmp_path, text, why):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=why) as raised:
        read_region(tmp_path / "a.json", (4, 6))
    assert "\n" not in str(raised.value)


def test_nothing_outside_the_region_is_probable(tmp_path):
    (tmp_path / "a.json").write_text("[[[0, 0], [1, 0], [1, 2], [0, 2]]]")
    probs = np.full((3, 5, 2), 0.5, np.float32)
    found = restrict(probs, LineSettings(roi=str(tmp_path / "a.json")))
    assert found.dtype == np.float32
    assert (found[:, :2] == 0.5).all()
    assert not found[:, 2:].any()
    assert restrict(probs, LineSettings()) is probs


def judge_areas(rules: dict, *areas: tuple[str, int]) -> list[str]:
    pictures = pd.DataFrame(
        {"ImageId": ["a", "b", "c", "d"], "verdict": ["defect", "OK", "unreadable", "skipped"]}
    )
    rows = [{"ImageId": "a", "class": name, "area": area} for name, area in areas]
    return judge(pictures, rows, LineSettings(ok_ng=rules))["ok_ng"].tolist()


def test_a_defect_of_the_limit_and_one_without_a_rule_are_ng_and_so_is_what_cannot_be_read():
    rules = {"dent": {"area": 5}}
    assert judge_areas(rules, ("dent", 4)) == ["OK", "OK", "NG", ""]
    assert judge_areas(rules, ("dent", 4), ("dent", 5)) == ["NG", "OK", "NG", ""]
    assert judge_areas(rules, ("crack", 1)) == ["NG", "OK", "NG", ""]
    assert judge_areas({"dent": {}}, ("dent", 999)) == ["OK", "OK", "NG", ""]


def test_without_rules_there_is_no_such_column():
    pictures = pd.DataFrame({"ImageId": ["a"], "verdict": ["OK"]})
    assert judge(pictures, [], LineSettings()) is pictures


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"ok_ng": {"bar 3": {"area": 2}}}, "setting 'line.ok_ng': no class 'bar 3'; did you mean"),
        ({"ok_ng": {"bar 1": {"width_mm": 2}}}, r"'line.ok_ng.bar 1.width_mm': say MM_PER_PIXEL=<number>"),
        ({"roi": "none.png"}, r"none\.png: no such file"),
        ({"roi": "none.json"}, r"none\.json: no such file"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_read(root, line, why):
    write_dark_finder(root)
    path = root / "notebooks" / "experiments" / "fake.yml"
    path.write_text(f"{path.read_text()}line: {json.dumps(line)}\n")
    with pytest.raises(DefectmillError, match=why):
        check_line(load_experiment("fake"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"mm_per_pixel": "0,12"}, "setting 'line.mm_per_pixel' = '0,12'"),
        ({"mm_per_pixel": 0}, "setting 'line.mm_per_pixel' = 0"),
        ({"ok_ng": {"bar 1": {"size": 2}}}, "line.ok_ng.bar 1.size"),
        ({"region": "a.png"}, "unknown setting 'line.region'"),
    ],
)
def test_settings_that_are_none_are_refused(root, line, why):
    write_dark_finder(root)
    with pytest.raises(ConfigError, match=why):
        load_experiment("fake", {"line": line})


def test_no_product_of_an_earlier_step_comes_from_the_lines_settings(root):
    write_dark_finder(root)
    run = load_experiment("fake", {"line.mm_per_pixel": 0.5, "line.roi": "a.png"})
    assert run.line.mm_per_pixel == 0.5
    assert run.model_dump() == load_experiment("fake").model_dump()


def test_an_inspection_counts_inside_the_region_in_millimetres_and_says_ng(root, monkeypatch):
    write_dark_finder(root)
    monkeypatch.chdir(root)
    path = root / "notebooks" / "experiments" / "fake.yml"
    path.write_text(
        path.read_text() + "line: {roi: a.json, mm_per_pixel: 0.5, ok_ng: {bar 1: {length_mm: 3.0}}}\n"
    )
    (root / "a.json").write_text("[[[0, 0], [9, 0], [9, 11], [0, 11]]]")
    (root / "parts").mkdir()
    for name, box in (
        ("long", np.s_[2:4, 1:7]),
        ("short", np.s_[2:4, 1:6]),
        ("cut", np.s_[2:4, 7:19]),
        ("out", np.s_[:, 11:19]),
    ):
        picture = np.full((12, 20, 1), 255, np.uint8)
        picture[box] = 0
        write_image(root / "parts" / f"{name}.png", picture)
    found = defectmill.inspect("parts", "fake")
    sizes = found.defects.set_index("ImageId")[["area", "area_mm2", "length_mm", "width_mm"]]
    assert sizes.loc["long.png"].tolist() == [12, 3.0, 3.0, 1.0]
    assert sizes.loc["short.png"].tolist() == [10, 2.5, 2.5, 1.0]
    assert sizes.loc["cut.png"].tolist() == [6, 1.5, 1.5, 1.0]
    verdicts = found.pictures.set_index("ImageId")[["verdict", "ok_ng"]]
    assert verdicts.loc["long.png"].tolist() == ["defect", "NG"]
    assert verdicts.loc["short.png"].tolist() == ["defect", "OK"]
    assert verdicts.loc["out.png"].tolist() == ["OK", "OK"]
    assert found.totals == "4 pictures: 1 OK, 3 with defects; 1 NG"
