"""The summary, the list, the index and the README's table, from scores written by hand."""

import json
from types import SimpleNamespace

import pytest

from defectmill.config import ConfigError
from defectmill.dataset_info import ALL_CLASSES, builtin_datasets
from defectmill.evaluation import results
from defectmill.evaluation.results import BEGIN, END

METRICS = ["score", "floor", "gain", "micro_dice", "boundary_f1", "image_recall", "false_alarm_rate"]


@pytest.fixture
def project(root):
    for name in ("good", "sample", "the-best"):
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text("dataset: sample\nscore: 0.9 once\n")
    return root


def write_scores(root, name, score, dice=0.7, low=0.5):
    values = dict.fromkeys(METRICS, 0.25) | {"score": score, "micro_dice": dice}
    rows = [
        {"class": of, "metric": metric, "value": value, "low": low, "high": low and 0.95}
        for of in [ALL_CLASSES, *builtin_datasets()["sample"].class_names]
        for metric, value in values.items()
    ]
    folder = root / "output" / name / "notebooks"
    folder.mkdir(parents=True)
    (folder / "03_train.json").write_text(json.dumps({"seconds": 500, "peak_mb": 123}))
    scores = {"part": "test part", "images": 80, "groups": 40, "score": score, "floor": 0.25, "metrics": rows}
    scores |= {"gain": score - 0.25, "intervals": {"score": [low, low and 0.95]}}
    (folder.parent / "scores.json").write_text(json.dumps(scores))


@pytest.mark.parametrize(("low", "interval"), [(0.5, " [0.5000, 0.9500]"), (None, "")])
def test_summary_tells_score_classes_times_products_and_what_to_try_next(project, capsys, low, interval):
    write_scores(project, "good", 0.8765, dice=None, low=low)
    results.print_summary("good")
    text = capsys.readouterr().out
    for line in (
        "good: 80 images of the test part; groups: 40\n",
        f"score 0.8765{interval}   floor 0.2500   gain +0.6265\n",
        "micro Dice   none   images found  0.250   false alarms  0.250   thin cracks\n",
        "03_train 500 s  = 500 s, peak memory 123 MB\n",
        "output/good/report.html: open it in a browser\n",
        "make infer EXPERIMENT=good IMAGES=<folder> OUT=<folder> ",
        'make EXPERIMENT=good SET="training.epochs=20" ',
    ):
        assert line in text, line


def warnings_of(name, capsys) -> list[str]:
    results.print_summary(name)
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING: ")]


@pytest.mark.parametrize(
    ("model", "ways"),
    [
        ("unet", "more training steps, a pretrained encoder, model.name=encoder_unet"),
        ("encoder_unet", "more training steps"),
        (
            "encoder_unet, pretrained: false",
            "more training steps, a pretrained encoder, model.name=encoder_unet",
        ),
    ],
)
@pytest.mark.parametrize("score", [0.25, 0.2])
def test_a_score_that_is_not_above_the_floor_is_told_with_what_to_try(project, capsys, score, model, ways):
    (project / "notebooks" / "experiments" / "good.yml").write_text(
        f"dataset: sample\nmodel: {{name: {model}}}\n"
    )
    write_scores(project, "good", score)
    assert warnings_of("good", capsys) == [
        f"finds nothing useful yet: score {score:.4f} is not above 0.2500, the score of an empty submission; "
        f"try `make plan EXPERIMENT=good` for settings that fit a time, {ways}"
    ]


def test_a_score_above_the_floor_is_no_warning(project, capsys):
    write_scores(project, "good", 0.2501)
    assert warnings_of("good", capsys) == []


def test_a_class_that_is_predicted_nowhere_in_validation_is_told(project, capsys):
    write_scores(project, "good", 0.9)
    (project / "output" / "good" / "evaluation.csv").write_text(
        "class,metric,value,low,high\n"
        "all classes,precision,,,\nall classes,recall,0.2,,\n"
        "NA,precision,,,\nNA,recall,0.0,,\n"
        "found,precision,0.0,,\nfound,recall,0.0,,\n"
        "absent,precision,,,\nabsent,recall,,,\n"
    )
    assert warnings_of("good", capsys) == [
        "NA is predicted nowhere in the validation images, though they show it",
        "absent is predicted nowhere in the validation images, and none of them shows it",
    ]


def test_networks_that_trained_too_few_steps_are_told(project, capsys):
    write_scores(project, "good", 0.9)
    notes = {"fold_0": {"steps": 199}, "fold_1": {"steps": 200}, "old": {}}
    (project / "output" / "good" / "networks.json").write_text(json.dumps(notes))
    (said,) = warnings_of("good", capsys)
    assert said.startswith("network fold_0 of good: 199 training steps teach an untrained network next to")
    # An ensemble tells of its members.
    (project / "notebooks" / "experiments" / "the-best.yml").write_text("dataset: sample\nmembers: [good]\n")
    write_scores(project, "the-best", 0.9)
    assert warnings_of("the-best", capsys) == [said]


def test_list_has_every_experiment_with_its_last_score(project, capsys):
    write_scores(project, "good", 0.8765)
    results.print_list()
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [n, "sample", "unet"] for n in ("good", "sample", "the-best")
    ]
    assert lines[0].endswith(" 0.8765 (floor 0.2500); we got 0.9 once")
    assert lines[1].endswith(" not run here; we got 0.9 once")


def test_index_links_to_the_reports_beside_it_largest_gain_first(project):
    (project / "notebooks" / "experiments" / "gone.yml").write_text("dataset: no-such-data\n")
    write_scores(project, "good", 0.8765)
    write_scores(project, "the-best", 0.9)
    path = results.write_site()
    assert path == project / "output" / "index.html"
    page = path.read_text()
    assert 0 < page.index('<a href="the-best/report.html">') < page.index('<a href="good/report.html">')
    for shown in ("0.8765", "0.5000 to 0.9500", "80 images, 40 groups", "Drawn rolled steel", ">8</td>"):
        assert shown in page
    assert "sample/report.html" not in page


def test_index_shows_several_runs_of_an_experiment_side_by_side_with_their_curves(project):
    write_scores(project, "good", 0.8765)
    folders = [project / "output" / "good" / "runs" / name for name in ("1-as-the-file", "2-epochs-7")]
    first, second = (
        SimpleNamespace(
            folder=folder,
            said=f"<{folder.name}>",
            date="2026-01-02 03:04",
            minutes=5,
            score=0.5,
            micro_dice=dice,
            is_current=dice is None,
            curves=[folder / "curves.png", folder / "fold_1" / "curves.png"],
        )
        for folder, dice in zip(folders, (0.25, None), strict=True)
    )
    page = results.write_site({"good": [first, second], "sample": [first]}).read_text()
    assert "Runs of good" in page
    assert "Runs of sample" not in page  # one run is compared with nothing
    for folder, dice in (("1-as-the-file", "0.250"), ("2-epochs-7", "none")):
        assert f'<a href="good/runs/{folder}/report.html">{folder}</a>' in page
        assert (
            f'<img src="good/runs/{folder}/fold_1/curves.png" alt="Learning curves of {folder}, fold_1"'
            in page
        )
        assert f"&lt;{folder}&gt;" in page
        assert f"micro Dice <b>{dice}</b>" in page
    assert page.count("(the current one)") == 1


def test_nothing_run_is_told_with_what_to_do(project):
    (project / "README.md").write_text(f"{BEGIN}{END}")
    for call in (results.write_site, results.write_readme_table, lambda: results.print_summary("sample")):
        with pytest.raises(ConfigError, match="make EXPERIMENT=sample"):
            call()


def test_scores_of_an_older_version_are_told_apart(project):
    (project / "output" / "good").mkdir(parents=True)
    (project / "output" / "good" / "scores.json").write_text('{"score": 0.9, "floor": 0.8, "panel": []}')
    with pytest.raises(ConfigError, match="older version wrote it; make report EXPERIMENT=good"):
        results.write_site()


def test_readme_table_replaces_the_old_one_only(project):
    readme = project / "README.md"
    readme.write_text(f"# head\n\n{BEGIN}\nold\n{END}\n\ntail\n")
    write_scores(project, "good", 0.8765, dice=None, low=None)
    write_scores(project, "the-best", 0.9)
    assert results.write_readme_table() == results.write_readme_table() == readme
    title, _, begin, header, _, best, good, *tail = readme.read_text().split("\n")
    assert (title, begin, tail) == ("# head", BEGIN, [END, "", "tail", ""])
    assert header.startswith("| experiment | score [95 %] | floor |")
    assert "| 0.9000 [0.5000 to 0.9500] | 0.2500 | 0.700 [0.500 to 0.950] | 80, 40 (test part) | 8 |" in best
    assert good == "| `good` | 0.8765 | 0.2500 | none | 80, 40 (test part) | 8 |"


def test_a_readme_without_marks_is_refused(project):
    write_scores(project, "good", 0.9)
    (project / "README.md").write_text("# head\n")
    with pytest.raises(ConfigError, match="marks"):
        results.write_readme_table()
    assert (project / "README.md").read_text() == "# head\n"
