"""The gallery, on pictures painted by hand."""

import base64

import cv2
import numpy as np

from defectmill.gallery import (
    DIFFERENCE,
    SIDE,
    Case,
    collect_cases,
    draw_case,
    paint_difference,
    shrink,
    split_difference,
    tell_classes,
    tell_difference,
)
from defectmill.images import write_image
from defectmill.postprocess import masks_to_labels
from fake_competition import make_card

TRUTH, ANSWER = np.zeros((2, 2, 5, 2), np.uint8)
TRUTH[0, :3, 0] = 1  # three pixels of class 1
ANSWER[0, 0, 0] = ANSWER[0, 1, 1] = ANSWER[1, 4, 1] = 1  # hit, wrong class; and a false alarm


def decode(address):
    head, data = address.split(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def test_every_pixel_is_one_kind_of_difference_or_none():
    parts = split_difference(TRUTH, ANSWER)
    assert {name: np.argwhere(mask).tolist() for name, mask in parts.items()} == {
        "hit": [[0, 0]], "missed": [[0, 2]], "false alarm": [[1, 4]], "wrong class": [[0, 1]],
    }  # fmt: skip
    assert list(parts) == list(DIFFERENCE)


def test_differences_are_painted_in_their_colours():
    picture = paint_difference(np.zeros((2, 5, 1), np.uint8), TRUTH, ANSWER)
    for name, (row, column) in {"hit": (0, 0), "missed": (0, 2), "false alarm": (1, 4)}.items():
        wanted = 64 + 0.75 * (np.array(DIFFERENCE[name]) - 64)
        np.testing.assert_allclose(picture[row, column], wanted, atol=0.51)
    assert picture[1, 0].tolist() == [64, 64, 64]


def test_words_say_what_the_colours_say():
    assert tell_classes(TRUTH, make_card()) == "bar 1 3 pixels"
    assert tell_classes(TRUTH * 0, make_card()) == "no defect"
    said = "hit 1, missed 1, false alarm 1, wrong class 1"
    assert tell_difference(TRUTH, ANSWER) == said
    assert tell_difference(TRUTH * 0, TRUTH * 0) == "nothing on either side"


def test_large_pictures_shrink_and_small_ones_stay():
    assert shrink(np.zeros((1000, 2000, 1), np.uint8)).shape == (SIDE // 2, SIDE, 1)
    assert shrink(np.zeros((100, 900, 3), np.uint8)).shape == (100, 900, 3)  # wide: twice the side
    assert shrink(np.zeros((40, 50, 2), np.uint8)).shape == (40, 50, 2)


def test_a_thin_crack_survives_the_shrinking():
    image = np.full((1500, 2000, 1), 90, np.uint8)
    truth = np.zeros((1500, 2000, 2), np.uint8)
    truth[700, 200:1800, 0] = 1
    drawn = draw_case(Case("Worst", "c.jpg", 0.0, image, truth, truth * 0), make_card())
    by_name = {panel["name"]: panel for panel in drawn["panels"]}
    tinted = decode(by_name["truth"]["address"])
    assert tinted.shape == (540, 720, 3)
    assert np.ptp(tinted.astype(int), axis=2)[:, 100:600].max(axis=0).min() > 30
    assert by_name["truth"]["alt"] == "c.jpg, truth: bar 1 1,600 pixels"
    assert by_name["difference"]["said"] == "missed 1,600"
    assert not drawn["wide"]


def test_panels_tell_their_size_so_that_the_page_does_not_jump():
    image = np.zeros((10, 50, 3), np.uint8)
    masks = np.zeros((10, 50, 2), np.uint8)
    drawn = draw_case(Case("Best", "w.png", 1.0, image, masks, masks), make_card())
    assert drawn["wide"]
    assert [p["name"] for p in drawn["panels"]] == ["input", "truth", "prediction", "difference"]
    for panel in drawn["panels"]:
        assert decode(panel["address"]).shape[:2] == (panel["height"], panel["width"]) == (10, 50)


def test_cases_go_from_worst_to_best_and_none_comes_twice(tmp_path):
    truth, answer = np.zeros((2, 8, 4, 10, 1), np.uint8)
    truth[:7, 1] = 1
    for n in range(7):
        answer[n, 1, : n + 3] = 1  # the eighth picture has nothing on either side
    ids = [f"{n}.png" for n in range(8)]
    for image_id in ids:
        write_image(tmp_path / image_id, np.full((4, 10), 90, np.uint8))
    tables = [masks_to_labels(zip(ids, masks, strict=True)) for masks in (truth, answer)]
    cases = collect_cases(tmp_path, *tables, 1)
    assert [(c.title, c.image_id) for c in cases] == [
        ("Worst", "0.png"), ("Worst", "1.png"), ("Median", "3.png"), ("Best", "6.png"),
        ("Best", "5.png"),
    ]  # fmt: skip
    assert cases[0].dice == 2 * 3 / 13
    assert cases[0].image.shape == (4, 10, 3)
    np.testing.assert_array_equal(cases[1].answer, answer[1])
    few = [t[t["ImageId"].isin(ids[:2])] for t in tables]
    assert [(c.title, c.image_id) for c in collect_cases(tmp_path, *few, 1)] == [
        ("Worst", "0.png"), ("Median", "1.png"),
    ]  # fmt: skip
    none = [t[t["ImageId"] == "7.png"] for t in tables]
    assert collect_cases(tmp_path, *none, 1) == []
