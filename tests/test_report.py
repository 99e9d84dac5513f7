"""The report page, made from products written by hand, and read back as a browser would."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from defectmill import config
from defectmill.config import load_experiment
from defectmill.gallery import Case
from defectmill.leaks import naive_answers
from defectmill.panel import score_panel
from defectmill.postprocess import masks_to_labels
from defectmill.report import write_report, write_scores
from defectmill.report_parts import SECTIONS
from defectmill.tally import tally_pairs
from fake_competition import write_fake_competition

EVIL = "<script>x.png"


class Page(HTMLParser):
    """Collects what a page asks for, shows and links to."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids, self.tags, self.text = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.images += [attrs] if tag == "img" else []

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An experiment whose products are written by hand."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "notebooks" / "experiments").mkdir(parents=True)
    (tmp_path / "notebooks" / "experiments" / "fake.yml").write_text("dataset: fake\n")
    write_fake_competition(tmp_path / "input" / "fake", n_train=4, n_test=2)
    run = load_experiment("fake")
    (run.output / "notebooks").mkdir(parents=True)
    pd.DataFrame({"epoch": [0, 1], "loss": [1.0, 0.5], "val_loss": [1.1, 0.7],
                  "foreground_dice": [0.1, 0.6], "val_foreground_dice": [0.5, 0.4]}
                 ).to_csv(run.output / "history.csv", index=False)  # fmt: skip
    pd.DataFrame({"split": ["random split", "by group"], "share": [0.912, 0.0]}).to_csv(
        run.output / "leaks.csv", index=False
    )
    pd.DataFrame({"finding": ["suffix lies"], "count": [1], "images": [EVIL]}).to_csv(
        run.output / "audit.csv", index=False
    )
    grid = [(c, t, 0.9, a, round(100 * a), t * c - a) for c in (1, 2) for t in (0.3, 0.6)
            for a in (0.0, 0.4)]  # fmt: skip
    columns = ["ClassId", "threshold", "peak", "area_share", "minimum_area", "gain"]
    pd.DataFrame(grid, columns=columns).to_csv(run.output / "rules.csv", index=False)
    rules = {"1": {"name": "bar 1", "threshold": 0.6, "peak": 0.9, "minimum_area": 40},
             "2": {"name": "bar 2", "threshold": 1.0, "peak": 1.0, "minimum_area": 0}}  # fmt: skip
    (run.output / "thresholds.json").write_text(json.dumps(rules))
    return run


def write_all(run):
    truth, answer = np.zeros((2, 3, 8, 12, 2), np.uint8)
    truth[:2, 2:5, 3:7, 0] = 1
    answer[0, 2:5, 3:7, 0] = answer[2, :2, :2, 1] = 1
    ids = ["a.png", "b.png", "c.png"]
    tally = tally_pairs(zip(ids, truth, answer, strict=True))
    groups, names = np.arange(3), run.card.class_names
    panel = score_panel(tally, groups, names)
    soft = np.array([[90.0, 84, 96], [80, 84, 96], [96, 96, 96]])
    held = score_panel(tally, groups, names, soft, tally.counts[..., :3])
    held.to_csv(run.output / "evaluation.csv", index=False)
    tables = [masks_to_labels(zip(ids, masks, strict=True)) for masks in (truth, answer)]
    images = pd.DataFrame({"ImageId": ids, "height": 8, "width": 12})
    naive = naive_answers(*tables, images)
    case = Case("Worst", EVIL, 0.25, np.full((8, 12, 1), 90, np.uint8), truth[0], answer[0])
    path = write_report(run, "test part", panel, 3, 3, naive, tally, [case])
    write_scores(run.output / "scores.json", "test part", 3, 3, panel, naive)
    return path


def test_page_asks_for_nothing_from_elsewhere(run):
    text = write_all(run).read_text()
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    assert all(link.startswith("#") for link in page.links)
    assert "url(" not in text
    assert "@import" not in text


def test_pictures_have_alt_texts_sizes_and_wait_until_they_are_seen(run):
    images = Page(write_all(run).read_text()).images
    assert len(images) == 4
    for image in images:
        assert image["alt"].startswith(EVIL)
        assert image["loading"] == "lazy"
        assert (image["width"], image["height"]) == ("12", "8")


def test_every_section_is_linked_and_there(run):
    page = Page(write_all(run).read_text())
    assert [f"#{id_}" for id_, _ in SECTIONS] == page.links[1:]
    assert {id_ for id_, _ in SECTIONS} == set(page.ids)
    assert page.links[0] == "#worth"


def test_numbers_stand_on_the_page(run):
    text = " ".join(Page(write_all(run).read_text()).text)
    # Class 1: one of two found; class 2: one false alarm. 6 pairs: 1, 0, 1 and 1, 1, 0.
    for shown in (f"{4 / 6:.4f}", "3 images in 3 groups", "0.91", "the model of epoch 1 is kept",
                  "above 0.6, peak 0.9, from 40 pixels on", "says nothing: no rule gains",
                  f"{266 / 288:.4f}", f"{264 / 288:.4f}", "50.0%", "n_folds: 5"):  # fmt: skip
        assert shown in text, shown


def test_the_chosen_rule_is_framed_once(run):
    text = write_all(run).read_text()
    assert text.count('class="best"') == 1
    assert ">0.20</td>" in text.split('class="best"')[1][:80]


def test_scores_are_plain_json(run):
    write_all(run)
    scores = json.loads((run.output / "scores.json").read_text())
    assert scores["score"] == pytest.approx(4 / 6)
    assert scores["floor"] == pytest.approx(4 / 6)
    assert (scores["images"], scores["groups"], scores["part"]) == (3, 3, "test part")
    assert scores["naive"]["says nothing (floor)"] == pytest.approx(4 / 6)
    rows = {(r["class"], r["measure"]): r["value"] for r in scores["panel"]}
    assert rows["bar 1", "recall"] == 0.5
    assert rows["bar 2", "recall"] is None
    assert not list(run.output.glob("*.part"))
