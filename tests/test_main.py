"""The one command line: what it prints, and that it says what is wrong in one line."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from defectmill.__main__ import COMMANDS, main, read_command
from defectmill.files import ROOT, DefectmillError
from defectmill.running.notebooks import tell_products


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "defectmill", *words], capture_output=True, text=True, check=False
    )


def test_what_make_calls_is_a_command():
    text = (ROOT / "Makefile").read_text()
    called = {part.split()[0].strip('"') for part in text.split("$(RUN) ")[1:]}
    assert called <= set(COMMANDS)
    assert len(called) >= 9


def test_an_error_is_one_line_without_a_traceback():
    done = run("summary", "sampel")
    assert done.returncode == 1
    assert done.stderr == "error: no experiment 'sampel'; did you mean 'sample'?\n"


def test_a_full_disk_is_one_line_too(tmp_path):
    (tmp_path / "notebooks" / "experiments").mkdir(parents=True)
    (tmp_path / "train_eval_infer.config").write_text("[mask]\nrgb_map = {(0, 0, 0): 0, (9, 9, 9): 1}\n")
    code = f"""
import resource, runpy, signal, sys
from pathlib import Path
from defectmill import files
files.ROOT = Path({str(tmp_path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
sys.argv[1:] = ["import-config", {str(tmp_path / "train_eval_infer.config")!r}, "--name=a"]
runpy.run_module("defectmill", run_name="__main__")
"""
    # Coverage would write its file under the limit, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    told = "the file grew larger than this system allows"
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/input/a/info.json: {told}\n")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "train_eval_infer.config"]


@pytest.mark.parametrize(
    "words", [("settings", "../x"), ("augment", "/x"), ("convert", "a/b"), ("train", "a b")]
)
def test_a_name_that_leaves_its_folder_is_refused(root, words):
    with pytest.raises(DefectmillError, match=r"^(EXPERIMENT|NAME)=.*: one word of letters"):
        main(words)
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_an_unknown_command_is_refused_with_those_there_are():
    done = run("trian")
    assert done.returncode == 2
    assert "'trian'" in done.stderr
    assert "notebook" in done.stderr


def test_listing_experiments_loads_no_tensorflow():
    code = "import sys; from defectmill.__main__ import main; main(['list'])\n"
    code += "assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "severstal-capstone" in done.stdout


def test_products_are_told_by_folder_relative_to_the_project(root, capsys, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere") / "found"
    paths = [root / "output" / "x" / name for name in ("b.csv", "a.csv")]
    tell_products([*paths, outside], seconds=3.4)
    assert capsys.readouterr().out.splitlines() == [
        f"  wrote {outside}",
        "  wrote output/x/: a.csv b.csv",
        "  in 3 s",
    ]


def test_the_learning_rate_finder_prints_its_suggestion_and_writes_table_and_figure(
    root, monkeypatch, capsys
):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    table = pd.DataFrame({"rate": [1e-3, 1e-2, 1e-1], "loss": [2.0, 1.0, 3.0], "smoothed": [1.8, 1.5, 2.2]})
    monkeypatch.setattr("defectmill.training.fit.load_split", lambda run, network: network)
    monkeypatch.setattr("defectmill.training.fit.find_rate", lambda run, split: {"fold_0": table}[split])
    main(["rates", "mine", "--set=training.learning_rate=0.004"])
    assert capsys.readouterr().out.splitlines() == [
        "mine: training.learning_rate=0.004, suggested 0.001",
        "  wrote output/mine/: rates.csv rates.png",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(root / "output" / "mine" / "rates.csv"), table)


def test_a_setting_that_is_unknown_stops_before_anything_runs(root):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    with pytest.raises(DefectmillError, match=r"unknown setting 'training\.epoch'"):
        main(["settings", "mine", "--set=training.epoch=3"])
    assert not (root / "output").exists()


def test_the_settings_of_each_stage_are_written_and_left_alone_where_they_say_the_same(root):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    main(["settings", "mine"])
    folder = root / "output" / "mine" / "settings"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.json")}
    assert sorted(before) == ["labels.json", "predict.json", "train.json"]
    main(["settings", "mine", "--set=predict.thresholds=[0.4]"])
    changed = {p.name for p in folder.glob("*.json") if p.stat().st_mtime_ns != before[p.name]}
    assert changed == {"predict.json"}


def test_a_plan_for_no_budget_or_before_the_labels_is_refused(root):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    with pytest.raises(DefectmillError, match="BUDGET=soon: not a duration; write 30min"):
        main(["plan", "mine", "--budget=soon"])
    with pytest.raises(DefectmillError, match="`make labels EXPERIMENT=mine` writes it"):
        main(["plan", "mine"])


def test_one_experiment_or_dataset_is_made_once_at_a_time_and_read_by_several(root, monkeypatch):
    for name in ("mine", "other"):
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text("dataset: sample\n")
    seen = []

    def train(run, *_):
        seen.append(run.name)
        for words in (["train", "mine"], ["settings", "mine"], ["clean", "mine"], ["input", "sample"]):
            with pytest.raises(DefectmillError, match=r"is being (made|read) by process \d+ on .* wait"):
                main(words)
        if run.name == "mine":
            main(["train", "other"])

    monkeypatch.setattr("defectmill.__main__.train", train)
    main(["train", "mine"])
    assert seen == ["mine", "other"]


@pytest.mark.parametrize(
    ("words", "given", "read"),
    [
        ("new", {"NAME": "own", "RAW": "a b", "BUDGET": "1h"}, {"name": "own", "raw": "a b", "budget": "1h"}),
        (
            "convert",
            {"NAME": "own", "FORMAT": "coco", "OUT": "o"},
            {"name": "own", "format": "coco", "out": "o"},
        ),
        (
            "kernel mine",
            {"OWNER": "jane", "HOURS": "1"},
            {"experiment": "mine", "owner": "jane", "competition": "", "hours": "1"},
        ),
        ("ensemble", {"EXPERIMENTS": "a b", "NAME": "c"}, {"members": "a b", "name": "c"}),
        ("import-config", {"CONFIG": "$x"}, {"config": "$x", "name": ""}),
        ("import-config --name=n", {"CONFIG": "c", "NAME": "other"}, {"config": "c", "name": "n"}),
        (
            "augment steel",
            {"TRANSFORMS": "elastic shear"},
            {"dataset": "steel", "transforms": ["elastic", "shear"]},
        ),
        ("augment steel", {"TRANSFORMS": ""}, {"dataset": "steel", "transforms": []}),
        ("compare", {"A": "one", "B": "two x"}, {"a": "one", "b": "two x"}),
        (
            "pseudo e",
            {"IMAGES": "i", "AGREEMENT": "0.7"},
            {"experiment": "e", "images": "i", "agreement": 0.7},
        ),
        (
            "infer e",
            {"SET": "", "IMAGES": "i", "OUT": "o"},
            {"experiment": "e", "set": "", "images": "i", "out": "o"},
        ),
        (
            "notebook 01_eda e",
            {"NAME": "other", "SET": "a=1"},
            {"name": "01_eda", "experiment": "e", "set": "a=1"},
        ),
        ("runs e", {"MLFLOW": "sqlite:///m"}, {"experiment": "e", "mlflow": "sqlite:///m"}),
        ("train e", {"FRESH": "1"}, {"experiment": "e", "set": "", "fresh": "1"}),
        ("train e", {"FRESH": ""}, {"experiment": "e", "fresh": ""}),
        ("input steel", {"RAW": "r"}, {"dataset": "steel", "raw": "r"}),
    ],
)
def test_what_make_was_given_comes_by_the_environment(monkeypatch, words, given, read):
    for name in (
        "SET",
        "RAW",
        "NAME",
        "OUT",
        "FORMAT",
        "TRANSFORMS",
        "BUDGET",
        "AGREEMENT",
        "IMAGES",
        "FRESH",
    ):
        monkeypatch.delenv(f"DEFECTMILL_{name}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"DEFECTMILL_{name}", value)
    found = vars(read_command(words.split()))
    assert {name: found[name] for name in read} == read
