"""What make would do again, and why."""

import itertools
import json
import os

import numpy as np
import pytest

from defectmill.__main__ import main
from defectmill.config import load_experiment
from defectmill.products import provenance, why
from fake_competition import write_fake_competition

SOURCES = {
    "02_labels": ["notebooks/02_labels.ipynb", "src/defectmill/curation/folds.py"],
    "04_predict": ["notebooks/04_predict.ipynb", "output/mine/settings/inputs/test_images"],
}
PRODUCTS = {"02_labels": "images.csv", "04_predict": "thresholds.json"}


@pytest.fixture
def run(root):
    """An experiment whose steps have run; its sources are files with a word in them."""
    write_fake_competition(root / "input" / "fake", n_train=3, n_test=2)
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: fake\n")
    run = load_experiment("mine")
    (run.output / "notebooks").mkdir(parents=True)
    (root / "src" / "defectmill" / "curation").mkdir(parents=True)
    for name in ("images.csv", "labels.csv"):
        (run.output / name).write_text("ImageId,fold\na,0\n")
    np.savez(run.output / "scans.npz", **{"train ImageId": ["a"], "train digest": ["1"]})
    (root / "notebooks" / "03_train.ipynb").write_text("{}")
    (run.output / "model.keras").write_text("weights")
    note = {"made_from": provenance.hash_training(run), "from": provenance.describe_training(run)}
    (run.output / "trained.json").write_text(json.dumps(note))
    (run.submission.parent).mkdir()
    run.submission.write_text("submitted")
    main(["why", "mine"])  # it notes what the input is
    for name, sources in SOURCES.items():
        for source in sources:
            if not (root / source).exists():
                (root / source).write_text("code")
        (run.output / PRODUCTS[name]).touch()
        note = {"from": provenance.describe_step(run, name, sources), "products": [PRODUCTS[name]]}
        note["made_from"] = provenance.hash_step(run, name, sources)
        (run.output / "notebooks" / f"{name}.json").write_text(json.dumps(note))
    return run


def ask(capsys, *words) -> dict[str, str]:
    capsys.readouterr()
    main(["why", "mine", "--sources", " ".join(itertools.chain(*SOURCES.values())), *words])
    lines = (line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    return dict(lines)


def test_where_nothing_changed_all_is_up_to_date(run, capsys):
    assert ask(capsys) == dict.fromkeys(("02_labels", "03_train", "04_predict"), "up to date")


def test_a_setting_redoes_the_steps_that_it_reaches(run, capsys):
    assert ask(capsys, "--set=labels.n_folds=3") == {
        "02_labels": "would run: labels.n_folds 5 -> 3",
        "03_train": "depends on what 02_labels will write",
        "04_predict": "would run: labels.n_folds 5 -> 3",
    }
    assert ask(capsys, "--set=training.steps=7") == {
        "02_labels": "up to date",
        "03_train": "fold_0 would be trained anew: training.steps 0 -> 7",
        "04_predict": "would run: training.steps 0 -> 7",
    }
    assert not (run.output / "settings" / "labels.json").exists()  # nothing is done


def test_code_data_and_lost_products_are_named(run, root, capsys):
    (root / SOURCES["02_labels"][1]).write_text("other code")
    (run.input / "test_images" / "bar_003.png").unlink()
    (run.output / "thresholds.json").unlink()
    cell = {"cell_type": "code", "source": ["1 + 1"]}
    (root / "notebooks" / "03_train.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert ask(capsys) == {
        "02_labels": "would run: code curation/folds.py changed",
        "03_train": "fold_0 would be trained anew: notebooks/03_train.ipynb changed",
        "04_predict": "would run: thresholds.json is missing, data test_images changed",
    }


def test_a_lost_product_alone_is_all_that_is_told(run, capsys):
    (run.output / "images.csv").rename(run.output / "moved.csv")
    assert ask(capsys)["02_labels"] == "would run: images.csv is missing"


def test_what_has_not_run_or_is_not_told_is_said(run, root, capsys):
    (run.output / "notebooks" / "02_labels.json").unlink()
    (run.output / "trained.json").write_text("{}")
    later = (run.output / "notebooks" / "04_predict.json").stat().st_mtime + 5
    os.utime(run.output / "thresholds.json", (later, later))
    assert ask(capsys) == {
        "02_labels": "would run: it has not yet",
        "03_train": f"fold_0 would be trained anew: {why.UNTOLD}",
        "04_predict": "would run: somebody wrote its products since make ran it",
    }
    (run.output / "model.keras").unlink()
    assert ask(capsys)["03_train"] == "fold_0 would be trained: it is not there"


def test_a_dataset_that_is_not_there_comes_first(run, root, capsys):
    (run.input / "dataset.json").unlink()
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    assert ask(capsys)["input"] == "would be made: input/sample is not there"


def test_files_that_come_and_go_are_told():
    then = {"settings": {}, "files": {"src/defectmill/a.py": "1", "output/x/settings/inputs/train.csv": "2"}}
    now = {"settings": {}, "files": {"src/defectmill/b.py": "1", "output/x/settings/inputs/train.csv": "3"}}
    assert why.tell_origins(then, now) == ["data train.csv changed", "code a.py is gone", "code b.py is new"]
