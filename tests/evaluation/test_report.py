"""What notebook 05 shows, and the page made of an executed one, read back as a browser would."""

import json
import re
from html.parser import HTMLParser

import nbformat.v4 as nb
import numpy as np
import pandas as pd
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.evaluation import report
from defectmill.evaluation.counts import count_masks
from defectmill.evaluation.metrics import compute_metrics, pick
from defectmill.products.manifest import note_predictions
from fake_competition import make_info

EVIL = "<script>x.png"
IMAGES = pd.DataFrame({"ImageId": ["a.png", "b.png", "c.png"], "group": [0, 1, 2]})
PNG = ("image/png", "iVBORw0KGgo=")


class Page(HTMLParser):
    """Collects what a page asks for, shows and links to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(str(text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, key, tag=""):
        return [attrs[key] for t, attrs in self.tags if key in attrs and tag in ("", t)]

    def count(self, tag):
        return [t for t, _ in self.tags].count(tag)


def test_what_a_notebook_shows_is_text_and_no_formula():
    rows = {EVIL: [{"value": 0.5, "low": 0.4, "high": 0.6}], "$x$": [{"value": 0.5, "low": 0.4, "high": 0.6}]}
    page = Page(report.show("values", columns=["score"], rows=rows).data)
    assert page.count("script") == 0
    assert "<script>x.png" in page.text
    assert page.tags[0] == ("div", {"class": "tex2jax_ignore"})


@pytest.fixture
def run(root):
    (root / "notebooks" / "experiments" / "fake.yml").write_text("dataset: fake\nabout: 1 < 2\n")
    (root / "input" / "fake").mkdir()
    (root / "input" / "fake" / "dataset.json").write_text(make_info().model_dump_json())
    return load_experiment("fake")


@pytest.fixture
def metrics():
    """Bar 1 found in one of two images, bar 2 predicted where none is. 6 pairs: 1, 0, 1 and 1, 1, 0."""
    truth, predicted = np.zeros((2, 3, 8, 12, 2), np.uint8)
    truth[:2, 2:5, 3:7, 0] = 1
    predicted[0, 2:5, 3:7, 0] = predicted[2, :2, :2, 1] = 1
    counted = count_masks(zip(IMAGES["ImageId"], truth, predicted, strict=True))
    return compute_metrics(counted, IMAGES["group"].to_numpy(), make_info().class_names)


def export(run, *shown, alt='a < "b"', heading="Is it good?"):
    """Export a notebook with one question, answered by what a cell shows, as (type, data)."""
    title = nb.new_markdown_cell("# Report\n\nReads `this`. Writes `that`.")
    question = nb.new_markdown_cell(f"## {heading}\n\nLook at *it*.\n")
    answer = nb.new_code_cell("secret_code()", execution_count=7, metadata={"alt": alt})
    answer.outputs = [nb.new_output("stream", text="1 < 2")]
    for kind, data in shown:
        bundle = {kind: data, "text/plain": "<Figure>"}
        answer.outputs.append(nb.new_output("execute_result", bundle, execution_count=7))
    executed = run.output / "notebooks" / "05_report.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text(nb.writes(nb.new_notebook(cells=[title, question, answer])))
    assert report.export_report(executed, run) == run.output / "report.html"
    assert sorted(p.name for p in run.output.iterdir()) == ["notebooks", "report.html"]
    return (run.output / "report.html").read_text()


def draw(clip="p1a"):
    """Give an SVG as Matplotlib writes it, in a colour of each kind."""
    parts = "".join(f'<path style="fill: {c}; stroke: {c}"/>' for c in [*report.COLOURS, "#ff0000"])
    head = '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x" "http://www.w3.org/x.dtd">\n<svg width="9pt" '
    head += 'viewBox="0 0 9 5" xmlns="http://www.w3.org/2000/svg"><metadata>date</metadata>'
    body = f'<g id="patch_1" clip-path="url(#{clip})">{parts}</g><g id="matplotlib.axis_2"/>'
    return "image/svg+xml", f'{head}{body}<defs><clipPath id="{clip}"/></defs></svg>'


def test_page_is_the_notebook_without_code_prompts_and_what_it_reads(run):
    text = export(run, ("text/html", "<b>0.5</b>"))
    for shown in ("<em>it</em>", "<pre>1 &lt; 2</pre>", '<div class="output"><b>0.5</b></div>'):
        assert shown in text
    for hidden in ("secret_code", "Reads", "[7]", "Out", "Figure"):
        assert hidden not in text
    assert "<title>fake: Drawn bars</title>" in text
    assert "Experiment fake: 1 < 2" in Page(text).text


def test_page_asks_for_nothing_from_elsewhere_and_runs_no_script(run):
    text = export(run, draw(), PNG)
    page = Page(text)
    assert not {"script", "link", "iframe", "base"} & {tag for tag, _ in page.tags}
    assert [src[:22] for src in page.all("src")] == ["data:image/png;base64,"]
    assert re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_every_section_is_linked_and_there(run):
    page = Page(export(run, ("text/html", "<table></table>"), heading="Is `a_b` < 3 good?"))
    skip, link = page.all("href")
    assert {skip, link} <= {f"#{name}" for name in page.all("id")}
    assert page.text.count("Is `a_b` < 3 good?") == 1
    assert page.all("aria-label", "div") == ["Is `a_b` < 3 good?"]  # of a table that scrolls


def test_figures_are_named_and_follow_the_colours_of_the_page(run):
    text = export(run, draw(), draw("p2b"), PNG)
    page, drawn = Page(text), text[text.index("<svg") : text.index("</svg>")]
    assert page.all("aria-label", "svg") == 2 * page.all("alt", "img") == 2 * ['a < "b"']
    assert page.all("role", "svg") == ["img", "img"]
    assert page.all("clip-path") == ["url(#p1a)", "url(#p2b)"]
    assert len(set(page.all("id"))) == len(page.all("id"))
    for name in report.COLOURS.values():
        assert f"fill: var(--{name}); stroke: var(--{name})" in drawn
        assert len(re.findall(rf"--{name}: #", text)) == 3  # light, dark, paper
    assert "fill: #ff0000" in drawn
    assert not [text for text in (*report.COLOURS, "date") if text in drawn]


def test_headline_has_numbers_and_intervals(run, metrics):
    text = Page(report.show_headline(run, metrics, "test part", IMAGES).data).text
    low, high = pick(metrics, "score")[["low", "high"]]
    shown = [f"{4 / 6:.4f}", f"95 % interval {low:.4f} to {high:.4f}", "+0.0000", "0.667"]
    for number in [*shown, "Measured on the test part: 3 images in 3 groups."]:
        assert number in text, number


@pytest.mark.parametrize(
    ("lost", "told"),
    [("value", "no defect in the truth: nothing to measure"), ("low", "one group: no interval")],
)
def test_what_was_not_measured_is_told(run, metrics, lost, told):
    lacking = metrics.assign(**{lost: np.nan})
    html = report.show_headline(run, lacking, "test part", IMAGES.assign(group=0))
    assert html.data.count(told) == 4
    assert "3 images in 1 group." in html.data


def test_a_score_that_is_not_above_the_floor_is_told_above_all(run, metrics):
    html = report.show_headline(run, metrics, "test part", IMAGES).data
    told = "Warning: finds nothing useful yet: score 0.6667 is not above 0.6667, the score of an empty"
    assert Page(html).text.strip().startswith(told)
    better = metrics["value"].where(metrics["metric"] != "score", 0.8)
    html = report.show_headline(run, metrics.assign(value=better), "test part", IMAGES).data
    assert "Warning" not in html


def test_table_of_classes_has_colours_intervals_and_meanings(metrics):
    page = Page(report.show_classes(metrics, make_info()).data)
    assert re.findall(r"bar 1|bar 2|mean(?=\d)", page.text) == ["bar 1", "bar 2", "mean"]
    assert page.all("style", "span") == [f"color: rgb{kind.colour}" for kind in make_info().classes]
    assert page.count("td") == 3 * len(report.COLUMNS)
    for text in ("micro IoU", "boundary F1", "0.5000.000 to 1.000", "none", "share of true pixels"):
        assert text in page.text, text


def test_names_are_escaped_and_long_texts_folded():
    html = report.show("values", columns=["micro_dice"], rows={EVIL: [{"value": 0, "low": None}]})
    assert "</th><td>0.0000</td></tr>" in html.data
    names = " / ".join([EVIL] * 20)
    findings = pd.DataFrame({"finding": ["blank", "wrong suffix"], "count": [0, 20], "images": ["", names]})
    html.data += report.show("audit", findings=findings, notes=("a & b",)).data
    html.data += report.show("provenance", facts={"seed": "3", "settings": "labels: {n_folds: 5}"}).data
    page = Page(html.data)
    assert (page.count("details"), page.count("script")) == (3, 0)
    assert page.text.count("n_folds: 5") == 1
    for text in (names, "wrong suffix", "a & b", "seed3"):
        assert text in page.text


def test_scores_are_plain_json(run, metrics):
    baselines = pd.DataFrame({"baseline": ["empty submission (floor)"], "score": [4 / 6]})
    report.write_scores(run, "test part", IMAGES, metrics, baselines)
    scores = json.loads((run.output / "scores.json").read_text())
    assert (scores["score"], scores["floor"], scores["gain"]) == pytest.approx((4 / 6, 4 / 6, 0))
    assert (scores["images"], scores["groups"], scores["part"]) == (3, 3, "test part")
    assert scores["intervals"]["score"] == pick(metrics, "score")[["low", "high"]].tolist()
    assert scores["baselines"] == {"empty submission (floor)": 4 / 6}
    rows = {(row["class"], row["metric"]): row["value"] for row in scores["metrics"]}
    assert (rows["bar 1", "recall"], rows["bar 2", "recall"]) == (0.5, None)


def test_a_report_is_made_of_no_edited_or_missing_predictions(run):
    with pytest.raises(
        ConfigError, match=r"thresholds\.json is missing: `make predict EXPERIMENT=fake` writes it"
    ):
        report.require_products(run)
    run.output.mkdir(parents=True)
    for name in ("thresholds.json", "validation.csv"):
        (run.output / name).write_text("of 04")
    note_predictions(run, {})
    report.require_products(run)
    (run.output / "validation.csv").write_text("edited")
    with pytest.raises(ConfigError, match=r"validation\.csv: not as 04 wrote it"):
        report.require_products(run)


def test_arms_are_shown_with_what_they_gain_over_the_baseline_which_gains_nothing(tmp_path):
    columns = (
        "arm,settings,score,micro_dice,image_recall,false_alarm_rate,difference,low,high,verdict,minutes"
    )
    rows = ["baseline,,0.9,0.5,1.0,0.25,,,,,2.4", "<b>,NA,0.9,0.6,1.0,0.25,0.1,-0.02,0.2,unclear,3.0"]
    (tmp_path / "ablation.csv").write_text("\n".join([columns, *rows]) + "\n")
    page = report.show_ablation(tmp_path / "ablation.csv").to_html()
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", page)
    assert cells == [
        *("arm", "settings", "score", "Dice", "images found", "false alarms"),
        *("Dice - baseline's [95 %]", "verdict", "minutes"),
        *("baseline", "", "0.900", "0.500", "1.000", "0.250", "", "", "2"),
        *("&lt;b&gt;", "NA", "0.900", "0.600", "1.000", "0.250", "+0.100 [-0.020, +0.200]", "unclear", "3"),
    ]
