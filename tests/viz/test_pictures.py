"""Pictures and the gallery, on images painted by hand."""

import base64
import re
from html.parser import HTMLParser

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from defectmill.curation.suspects import rank_suspects
from defectmill.images import write_image
from defectmill.labels import masks_to_labels, read_labels
from defectmill.prediction.postprocess import ClassThreshold, make_masks
from defectmill.rle import mask_to_rle
from defectmill.viz import pictures
from defectmill.viz.pictures import DIFFERENCE, SIDE, Case, collect_cases, gallery, pick_examples, shrink
from fake_competition import COLOURS, make_info

CSV = "ImageId,ClassId,EncodedPixels"
INFO = make_info()
TRUTH, PREDICTED = np.zeros((2, 2, 5, 2), np.uint8)
TRUTH[0, :3, 0] = 1  # three pixels of class 1
PREDICTED[0, 0, 0] = PREDICTED[0, 1, 1] = PREDICTED[1, 4, 1] = 1  # hit, wrong class; and a false alarm


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def read_panels(cases, info=INFO):
    """Attributes of each <img> of a gallery, with the decoded picture."""
    panels = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tag == "img" and panels.append(dict(attributes))
    parser.feed(gallery(cases, info).data)
    for panel in panels:
        head, data = panel["src"].split(",")
        assert head == "data:image/jpeg;base64"
        panel["picture"] = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return panels


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_every_pixel_is_one_kind_of_difference_or_none_and_painted_in_its_colour():
    parts = pictures.split_difference(TRUTH, PREDICTED)
    wanted = {"hit": [[0, 0]], "missed": [[0, 2]], "false alarm": [[1, 4]], "wrong class": [[0, 1]]}
    assert {name: np.argwhere(mask).tolist() for name, mask in parts.items()} == wanted
    assert list(parts) == list(DIFFERENCE)
    picture = pictures.paint_difference(np.zeros((2, 5, 1), np.uint8), TRUTH, PREDICTED)
    for name, ((row, column),) in wanted.items():
        shade = 64 + 0.75 * (np.array(DIFFERENCE[name]) - 64)
        np.testing.assert_allclose(picture[row, column], shade, atol=0.51)
    assert picture[1, 0].tolist() == [64, 64, 64]


def test_large_images_shrink_and_small_ones_stay():
    assert shrink(np.zeros((1000, 2000, 1), np.uint8)).shape == (SIDE // 2, SIDE, 1)
    assert shrink(np.zeros((100, 900, 3), np.uint8)).shape == (100, 900, 3)  # wide: twice the side
    assert shrink(np.zeros((40, 50, 2), np.uint8)).shape == (40, 50, 2)


def test_a_gallery_says_in_words_what_its_colours_say():
    image = np.zeros((2, 5, 1), np.uint8)
    panels = read_panels([Case("Worst", 'a "b".jpg', 0.25, image, TRUTH, PREDICTED)])
    assert [panel["alt"].removeprefix('a "b".jpg, ') for panel in panels] == [
        "input: as it is",
        "truth: bar 1: 3 pixels",
        "prediction: bar 1: 1 pixels, bar 2: 2 pixels",
        "difference: hit: 1 pixels, missed: 1 pixels, false alarm: 1 pixels, wrong class: 1 pixels",
    ]
    page = gallery([Case("Best", "<c>.png", 1.0, image, TRUTH * 0, TRUTH * 0)], INFO).data
    assert "Best: Dice 1.00, &lt;c&gt;.png" in page
    assert "truth: no defect" in page
    for colour in (*COLOURS[:2], *DIFFERENCE.values()):
        assert f"rgb{colour}" in page
    assert "No image has a defect" in gallery([], INFO).data


def test_a_thin_crack_survives_the_shrinking():
    image = np.full((1500, 2000, 1), 90, np.uint8)
    truth = np.zeros((1500, 2000, 2), np.uint8)
    truth[700, 200:1800, 0] = 1
    tinted = read_panels([Case("Worst", "c.jpg", 0.0, image, truth, truth * 0)])[1]["picture"]
    assert tinted.shape == (540, 720, 3)
    assert np.ptp(tinted.astype(int), axis=2)[:, 100:600].max(axis=0).min() > 30


def test_panels_tell_their_size_and_wide_ones_stand_below_one_another():
    image, masks = np.zeros((10, 50, 3), np.uint8), np.zeros((10, 50, 2), np.uint8)
    cases = [Case("Best", "w.png", 1.0, image, masks, masks)]
    for panel in read_panels(cases):
        assert panel["picture"].shape[:2] == (int(panel["height"]), int(panel["width"])) == (10, 50)
    assert '<section class="wide">' in gallery(cases, INFO).data


def test_noisy_images_are_compressed_until_the_page_is_small_enough(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    masks = np.zeros((90, 110, 2), np.uint8)
    cases = [Case("Best", "n.png", 1.0, image, masks, masks)]
    full = len(gallery(cases, INFO).data)
    monkeypatch.setattr(pictures, "MOST_BYTES", full)
    assert len(gallery(cases, INFO).data) < 0.8 * full


def test_cases_go_from_worst_to_best_and_none_comes_twice(tmp_path):
    truth, predicted = np.zeros((2, 8, 4, 10, 1), np.uint8)
    truth[:7, 1] = 1
    for n in range(7):
        predicted[n, 1, : n + 3] = 1  # the eighth image has nothing on either side
    ids = [f"{n}.png" for n in range(8)]
    for image_id in ids:
        write_image(tmp_path / image_id, np.full((4, 10), 90, np.uint8))
    tables = [masks_to_labels(zip(ids, masks, strict=True)) for masks in (truth, predicted)]
    cases = collect_cases(tmp_path, *tables, 1)
    ends = [("Worst", "0.png"), ("Worst", "1.png"), ("Median", "3.png"), ("Best", "6.png"), ("Best", "5.png")]
    assert [(c.title, c.image_id) for c in cases] == ends
    assert cases[0].dice == 2 * 3 / 13
    assert cases[0].image.shape == (4, 10, 3)
    np.testing.assert_array_equal(cases[1].predicted, predicted[1])
    np.testing.assert_array_equal(cases[1].truth, truth[1])
    few = [t[t["ImageId"].isin(ids[:2])] for t in tables]
    found = [(c.title, c.image_id) for c in collect_cases(tmp_path, *few, 1)]
    assert found == [("Worst", "0.png"), ("Median", "1.png")]
    none = [t[t["ImageId"] == "7.png"] for t in tables]
    assert collect_cases(tmp_path, *none, 1) == []


def test_examples_run_from_small_masks_to_large(table_file):
    lines = [f"{n}.jpg,1,1 {n}" for n in (50, 10, 40, 20, 30)]
    labels = read_labels(table_file(CSV, *lines), ["clean.jpg", *(f"{n}0.jpg" for n in range(1, 6))])
    assert pick_examples(labels, 1, 5) == ["10.jpg", "20.jpg", "30.jpg", "40.jpg", "50.jpg"]
    assert pick_examples(labels, 1, 3) == ["20.jpg", "30.jpg", "40.jpg"]
    assert pick_examples(labels, 1, 9) == ["10.jpg", "20.jpg", "30.jpg", "40.jpg", "50.jpg"]
    assert pick_examples(labels, 0, 3) == ["clean.jpg"]
    assert pick_examples(labels, 2, 3) == []


@pytest.mark.parametrize(("n_images", "n"), [(2, 1), (3, 2), (4, 3), (4, 4), (2, 3), (1, 1)])
def test_examples_are_as_many_as_asked_where_there_are_as_many(table_file, n_images, n):
    lines = [f"{k}.jpg,1,1 {k}" for k in range(1, n_images + 1)]
    picked = pick_examples(read_labels(table_file(CSV, *lines)), 1, n)
    assert len(set(picked)) == len(picked) == min(n, n_images)


def test_images_are_shown_tinted_and_wide_ones_below_one_another(competition):
    labels, _, folder = competition
    ids = ["0.png", "1.png", "2.png", "3.png"]
    images, masks = pictures.read_with_masks(folder, labels, ids, 2)
    assert [(i.shape, m.shape) for i, m in zip(images, masks, strict=True)][2] == ((30, 20, 3), (30, 20, 2))
    sheet = pictures.show_sheet(images, masks, ids, "All", INFO)
    assert titles(sheet) == [*ids, "", ""]
    assert sheet.get_suptitle() == "All"
    assert [text.get_text() for text in sheet.legends[0].get_texts()] == INFO.class_names
    np.testing.assert_array_equal(sheet.axes[0].get_images()[0].get_array()[4, 6], COLOURS[1])
    assert titles(pictures.show_examples(images, masks, ids, "All", INFO)) == [
        *ids[:3],
        *[""] * 3,
        ids[3],
        *[""] * 5,
    ]
    wide = [np.zeros((4, 20, 3), np.uint8)] * 2, [np.ones((4, 20, 2), np.uint8)] * 2
    examples = pictures.show_examples(*wide, ["a", "b"], "Wide", INFO)
    assert titles(examples) == ["a", "", "b", ""]
    assert [axes.get_images()[0].get_array().max() > 0 for axes in examples.axes] == [False, True] * 2
    assert len({round(axes.get_position().x0, 3) for axes in examples.axes}) == 1
    pairs = pictures.show_pairs([(images[0], images[1])] * 3, [("x", "y")] * 3)
    assert titles(pairs) == ["x", "y"] * 3 + ["", ""]


@pytest.mark.parametrize("exclusive", [True, False])
def test_steps_end_with_the_mask_of_the_submission(exclusive):
    probs = np.zeros((9, 14, 2), np.float32)
    probs[1:4, 1:5, 0], probs[2, 2, 0] = 0.5, 0.9  # reaches 0.8; 13 pixels with
    probs[4, 0, 0] = 0.5  # one that touches its corner
    probs[6:8, 1:5, 0] = 0.7  # 8 pixels, never does
    probs[5, 9:12, 0] = 0.9  # 3 pixels, too few
    probs[1:4, 4, 1] = 0.6  # the other class, more probable there
    info = INFO.model_copy(update={"exclusive": exclusive})
    thresholds = [ClassThreshold(0.4, 0.8, 5), ClassThreshold(1.0, 1.0, 0)]
    figure = pictures.show_steps(np.zeros((9, 14, 3), np.uint8), probs, thresholds, info, 1)
    wanted = make_masks(probs, thresholds, exclusive)[:, :, 0]
    assert wanted.sum() == (10 if exclusive else 13)
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown[3], wanted[:, :, None] * np.array(COLOURS[0]))
    assert shown[1][2, 2] == 229
    above = [re.sub(r"\s+", " ", title) for title in titles(figure)][2:]
    assert above[0].endswith(f"{wanted.sum() + 11} pixels in 3 components")
    assert above[1] == f"1 components of at least 5 pixels that reach 0.8: {wanted.sum()} pixels"
    assert figure.get_suptitle() == f"Run-length string: {mask_to_rle(wanted)}"
    assert (
        pictures.show_steps(shown[3], probs, thresholds, info, 2).get_suptitle() == "Run-length string: empty"
    )


def test_suspects_are_cut_out_with_both_outlines_in_their_colours(tmp_path):
    image = np.random.default_rng(1).integers(0, 200, (80, 120, 3), np.uint8)
    write_image(tmp_path / "a.png", image)
    labelled, predicted = np.zeros((2, 80, 120, 2), np.uint8)
    labelled[40:60, 30:50, 0] = predicted[42:62, 34:54, 1] = 1
    maps = [("a.png", predicted.astype(float), labelled)]
    tables = [masks_to_labels([("a.png", masks)]) for masks in (labelled, predicted)]
    found = rank_suspects(maps)
    figure = pictures.show_suspects(tmp_path, pd.concat([found] * 4), *tables, INFO)
    assert len(found) == 1
    title = re.sub(r"\s+", " ", titles(figure)[0])
    assert title == f"wrong class {found['suspicion'][0]:.2f}: bar 1, predicted bar 2 a.png"
    assert len(titles(figure)) == 6
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown.shape == (pictures.OUTLINED, pictures.OUTLINED, 3)
    scale = pictures.OUTLINED / 52  # the box of 20 x 20 pixels, with 16 around it
    for colour, first in zip(pictures.OUTLINES.values(), ([16, 16], [18, 20]), strict=True):
        outline = np.argwhere((shown == colour).all(axis=2)) / scale
        np.testing.assert_allclose(outline.min(axis=0), first, atol=0.2)
        np.testing.assert_allclose(outline.max(axis=0), np.add(first, 20), atol=0.3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["labelled", "predicted"]


def test_long_titles_are_broken_and_narrow_pictures_stay_small():
    figure = pictures.show_pictures([[np.zeros((40, 10, 1), np.uint8)]], [["a_file_name_" * 6]])
    assert "\n" in titles(figure)[0]
    assert figure.get_figwidth() == 1
