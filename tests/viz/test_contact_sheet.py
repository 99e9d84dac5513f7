"""Contact sheets: thumbnails by hand, what a page shows, leaves out and asks for."""

import re

import numpy as np
import pandas as pd
import pytest

from defectmill.images import decode_image
from defectmill.viz import contact_sheet
from defectmill.viz.contact_sheet import Thumbnail, draw_thumbnail, render_sheet
from fake_competition import COLOURS, make_info

ABOUT = {"title": "Inspection: parts", "model": "fake", "totals": "5 pictures", "hint": ""}
TOLD = ["ImageId", "verdict", "reason", "height", "area_percent", "largest_probability", "components"]
DEFECTS = pd.DataFrame(
    [("a b#1.png", 2, 1200), ("a b#1.png", 2, 34), ("a b#1.png", 1, 5)],
    columns=["ImageId", "ClassId", "area"],
)


def make_pictures(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=TOLD).assign(unlike_training="").astype({"components": "Int64"})


PICTURES = make_pictures(
    ("a b#1.png", "defect", "", 9, 12.345, 0.987, 3),
    ("<i>.png", "unreadable", "no & image", None, None, None, None),
    ("clean.png", "OK", "", 9, 0, 0.04, 0),
    ("scan.heic", "skipped", ".heic is not read", None, None, None, None),
)
SMALL = Thumbnail(b"jpeg", 9, 16, "a b#1")
THUMBNAILS = {"a b#1.png": SMALL, "clean.png": Thumbnail(b"x", 9, 16, "clean")}


def render(pictures=PICTURES, defects=DEFECTS, thumbnails=THUMBNAILS, **about) -> str:
    return render_sheet(pictures, defects, thumbnails, make_info(), {**ABOUT, **about})


def cards_of(page: str) -> list[str]:
    return re.findall(r"<article.*?</article>", page, flags=re.DOTALL)


def test_a_card_shows_verdict_classes_and_areas_and_links_to_mask_and_overlay():
    defect, unreadable, clean = cards_of(render())
    assert '<img src="data:image/jpeg;base64,anBlZw==" width="16" height="9"' in defect
    assert 'alt="a b#1.png: bar 1, 5 pixels; bar 2, 1,234 pixels"' in defect
    assert defect.count('href="overlays/a%20b%231.jpg"') == 2
    assert 'href="masks/a%20b%231.png"' in defect
    assert "12.3 % of the picture" in defect
    assert f'style="background: rgb{COLOURS[1]}"></i>bar 2: 1,234 pixels' in defect
    assert "3 components, largest probability 0.99" in defect
    assert 'data-keys="defect class-1 class-2"' in defect
    assert 'alt="clean.png: no defect"' in clean
    assert "<i>.png" not in unreadable
    assert "no &amp; image" in unreadable
    assert "<img" not in unreadable


def test_the_head_has_totals_classes_and_a_filter_for_what_there_is():
    page = render(hint="25 of 65 look darker")
    assert "<h1>Inspection: parts</h1>" in page
    assert '<p class="hint">25 of 65 look darker</p>' in page
    assert 'class="hint"' not in render()
    assert "bar 1: 1 picture, 5 pixels" in page
    keys = re.findall(r'data-key="([^"]*)">', page)
    assert keys == ["", "defect", "unreadable", "OK", "class-1", "class-2"]
    assert "1 file was skipped" in page
    assert "scan.heic: .heic is not read" in page
    unlike = render(PICTURES.assign(unlike_training=["darker than all", "", "", ""]))
    assert 'data-keys="defect class-1 class-2 unlike-training"' in unlike
    assert 'data-key="unlike-training"' in unlike


def test_a_page_asks_for_nothing_from_elsewhere():
    page = render()
    assert "default-src 'none'" in page
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", page)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert {a.split(":")[0] if ":" in a else a.split("/")[0] for a in addresses} == {
        "data",
        "overlays",
        "masks",
    }


def test_names_are_text_on_a_page_whatever_they_hold():
    evil = '<img src=x onerror="alert(1)">'
    kinds = [kind.model_copy(update={"name": f"{evil}{kind.id}"}) for kind in make_info().classes]
    info = make_info().model_copy(update={"classes": tuple(kinds)})
    rows = (evil, "defect", "", 9, 1, 0.5, 1), (f"{evil}2", "skipped", evil, None, None, None, None)
    about = {"title": evil, "model": evil, "totals": evil, "hint": evil}
    thumbnails = {evil: SMALL._replace(name=f"a#?{evil}")}
    page = render_sheet(make_pictures(*rows), DEFECTS.assign(ImageId=evil), thumbnails, info, about)
    assert page.count("onerror") > 9
    assert re.findall(r"<img [^d]{5}", page) == ['<img src="']
    assert page.count('<img src="data:') == 1
    assert 'href="overlays/a%23%3F%3Cimg%20src%3Dx%20onerror%3D' in page


def test_a_page_without_defects_or_pictures_says_so():
    page = render(PICTURES[2:3], DEFECTS[:0])
    assert "bar 1: 0 pictures" in page
    assert len(cards_of(page)) == 1
    assert cards_of(render(PICTURES[:0], DEFECTS[:0])) == []


def test_what_does_not_fit_is_left_out_and_counted(monkeypatch):
    rows = [(f"{n}.png", "defect" if n < 3 else "OK", "", 9, 1.0, 0.5, 1) for n in range(8)]
    pictures, thumbnails = make_pictures(*rows), {f"{n}.png": SMALL for n in range(8)}
    assert "Not shown" not in render(pictures, thumbnails=thumbnails)
    monkeypatch.setattr(contact_sheet, "MOST", 2)
    page = render(pictures, thumbnails=thumbnails)
    assert len(cards_of(page)) == 2
    assert "Not shown, to keep this page small: 1 defect, 5 OK; pictures.csv has a row for each." in page


def test_a_page_stays_below_its_limit_of_bytes(monkeypatch):
    monkeypatch.setattr(contact_sheet, "MOST_BYTES", 100_000)
    rows = [(f"{n}.png", "OK", "", 9, 0.0, 0.5, 0) for n in range(20)]
    thumbnails = {f"{n}.png": Thumbnail(bytes(12_000), 9, 16, "n") for n in range(20)}
    page = render(make_pictures(*rows), thumbnails=thumbnails)
    assert len(cards_of(page)) == 5  # 16 kB of base64 each
    assert "15 OK" in page
    assert len(page) < 110_000


def decode(thumbnail: Thumbnail) -> np.ndarray:
    return decode_image(np.frombuffer(thumbnail.data, np.uint8), "thumbnail", 3)


@pytest.mark.parametrize(
    ("shape", "small"),
    [((600, 900), (171, 256)), ((50, 90), (50, 90)), ((256, 1600), (96, 600)), ((40, 2560), (10, 640))],
)
def test_thumbnails_have_256_pixels_and_wide_ones_more(shape, small):
    thumbnail = draw_thumbnail(
        np.zeros((*shape, 3), np.uint8), np.zeros((*shape, 2), np.uint8), COLOURS[:2], "x"
    )
    assert (thumbnail.height, thumbnail.width) == small
    assert decode(thumbnail).shape == (*small, 3)
    assert thumbnail.is_wide == (shape[1] > 2 * shape[0])


def test_a_defect_is_tinted_and_one_of_a_few_pixels_is_ringed():
    masks = np.zeros((600, 900, 2), np.uint8)
    masks[300:500, 100:400, 0] = 1
    masks[90:92, 700:702, 1] = 1
    drawn = decode(draw_thumbnail(np.full((600, 900, 3), 128, np.uint8), masks, COLOURS[:2], "x")).astype(int)
    assert (drawn[115, 70] - 128)[0] > 30  # amid the large one, towards yellow
    down, across = 26, 199  # the middle of the small one
    ring = np.abs(drawn - 128).sum(axis=2)
    assert ring[down, across + 8] > 60
    assert ring[down - 8, across] > 60
    assert ring[down, across + 12] < 30
