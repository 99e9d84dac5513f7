"""Provenance."""

import json
import subprocess

import numpy as np
import pytest
import yaml

from defectmill.config import ConfigError, load_experiment
from defectmill.products import provenance


@pytest.mark.parametrize("linked", [False, True])
def test_hash_tells_names_and_contents(tmp_path, linked):
    folder, far = tmp_path / "input", tmp_path / "far"
    folder.mkdir()
    far.mkdir()
    if linked:
        (folder / "train_images").symlink_to(far)
    else:
        folder = far
    picture = far / "b.png"
    (folder / "a.csv").write_bytes(b"1")
    picture.write_bytes(b"2")
    known = provenance.hash_folder(folder)
    assert known == provenance.hash_folder(folder)
    assert len(known) == 64
    picture.write_bytes(b"3")
    changed = provenance.hash_folder(folder)
    picture.write_bytes(b"2")
    picture.rename(far / "c.png")
    renamed = provenance.hash_folder(folder)
    assert len({known, changed, renamed}) == 3
    (folder / ".raw.json").write_text("where it came from")
    assert provenance.hash_folder(folder) == renamed


def test_commit_says_when_the_code_was_changed_since(root, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    assert provenance.find_commit() == "no git checkout"
    (root / "a.py").write_text("1")
    git = "git -c user.name=a -c user.email=a@b"
    script = f"git init -q && git add . && {git} commit -q -m first && {git} tag -a v1 -m other"
    subprocess.run(script, shell=True, cwd=root, check=True)
    (root / "untracked.csv").write_text("2")
    clean = provenance.find_commit()
    assert clean.startswith("git commit ")
    assert len(clean.split()[-1]) == 40
    (root / "a.py").write_text("3")
    assert provenance.find_commit() == f"{clean}, with changes that are not committed"


def test_a_run_is_described_without_loading_its_libraries(root, monkeypatch):
    monkeypatch.setattr(provenance, "hash_folder", lambda folder: f"<{folder.name}>")
    (root / "notebooks" / "experiments" / "tiles.yml").write_text("dataset: magnetic-tile\nseed: 3\n")
    run = load_experiment("tiles", {"training.epochs": 7})
    assert provenance.describe_run(run)["time"] == "not measured"
    (run.output / "notebooks").mkdir(parents=True)
    for name, seconds in (("03_train", 61.4), ("01_eda", 3.0), ("06_infer", 5.0)):
        usage = {"seconds": seconds, "peak_mb": 9}
        (run.output / "notebooks" / f"{name}.json").write_text(json.dumps(usage))
    facts = provenance.describe_run(run)
    assert facts["data hash"] == "sha256 <magnetic-tile> (every file of input/magnetic-tile)"
    assert (facts["seed"], facts["time"]) == ("3", "01_eda 3 s, 03_train 61 s")
    assert "Huang" in facts["citation"]
    assert facts["keras"].startswith("3.")
    assert "cores" in facts["machine"]
    assert yaml.safe_load(facts["settings"]) == run.model_dump(mode="json")


@pytest.fixture
def folds(root):
    (root / "notebooks" / "experiments" / "folds.yml").write_text(
        "dataset: sample\nlabels: {validation_fold: every, n_folds: 2}\n"
        "training: {last_fit: 2, keep: last, schedule: {name: cosine}}\n"
    )
    (root / "notebooks" / "03_train.ipynb").write_text("{}")
    run = load_experiment("folds")
    run.output.mkdir(parents=True)
    run.input.mkdir(parents=True)
    for name in ("images.csv", "labels.csv", "test_images.csv"):
        (run.output / name).write_text("ImageId,fold\na,0\n")
    (run.input / "solution.csv").write_text("b")
    write_digests(run)
    return run


def write_digests(run, train="1", test="2"):
    """As 02 writes scans.npz, one image a part."""
    parts = {"train": ("a", train), "test": ("b", test)}
    columns = {
        f"{p} {c}": [v]
        for p, values in parts.items()
        for c, v in zip(("ImageId", "digest"), values, strict=True)
    }
    np.savez(run.output / "scans.npz", **columns)


def hashes(run, **settings) -> dict[str, str]:
    run = load_experiment("folds", settings)
    return {n: provenance.hash_training(run.model_copy(update={"network": n})) for n in run.networks}


def test_a_network_is_trained_again_where_what_it_comes_from_changed(folds):
    before = hashes(folds)
    assert len(set(before.values())) == 3
    for settings, again in (
        ({"training.learning_rate": 0.5}, {"fold_0", "fold_1", "last"}),
        ({"training.epochs": 7}, {"fold_0", "fold_1"}),  # the last fit has a length of its own
        ({"training.last_fit": 7}, {"last"}),
        ({"training.previews": 7}, {"fold_0", "fold_1"}),
        ({"predict.objective": "dice", "about": "words"}, set()),
    ):
        now = hashes(folds, **settings)
        assert {name for name in before if now[name] != before[name]} == again
    (folds.input / "solution.csv").write_text("c")
    now = hashes(folds)
    assert {name for name in before if now[name] != before[name]} == {"last"}
    # Other folds change what the fold networks learn from, and nothing of the last fit.
    (folds.output / "images.csv").write_text("ImageId,fold\na,1\n")
    assert {name for name in before if hashes(folds)[name] != now[name]} == {"fold_0", "fold_1"}
    now = hashes(folds)
    (folds.output / "labels.csv").write_text("c")
    assert not set(hashes(folds).values()) & set(now.values())


def test_a_network_is_trained_again_where_pictures_changed_that_it_learns_from(folds):
    before = hashes(folds)
    write_digests(folds, train="3")
    assert not set(hashes(folds).values()) & set(before.values())
    # Only a last fit learns from the test part, and only where its labels are at hand.
    write_digests(folds, test="3")
    now = hashes(folds)
    assert {name for name in before if now[name] != before[name]} == {"last"}
    (folds.input / "solution.csv").unlink()
    without = hashes(folds)
    write_digests(folds, test="4")
    assert hashes(folds) == without
    (folds.output / "scans.npz").unlink()
    with pytest.raises(ConfigError, match=r"scans\.npz is missing: `make labels EXPERIMENT=folds`"):
        hashes(folds)


@pytest.fixture
def code(folds, root):
    """The source of a module that trains."""
    source = root / "src" / "defectmill"
    (source / "models").mkdir(parents=True)
    (source / "images.py").write_text('"""Images."""\n\ndef read(path):\n    """Read."""\n    return path\n')
    (source / "models" / "unet.py").write_text("WIDTH = 3\n")
    return source


def test_a_comment_a_docstring_or_the_layout_of_the_code_trains_nothing_again(folds, code):
    before = hashes(folds)
    text = '# Reads.\n"""Pictures."""\ndef read( path ):  # one\n    """Reads one."""\n\n    return (path)\n'
    (code / "images.py").write_text(text)
    assert hashes(folds) == before
    (code / "images.py").write_text(text.replace("(path)\n", "(path + 1)\n"))
    assert not set(hashes(folds).values()) & set(before.values())
    (code / "images.py").write_text(text)
    (code / "models" / "unet.py").write_text("WIDTH = 4\n")
    assert not set(hashes(folds).values()) & set(before.values())


def test_outputs_and_words_of_the_notebook_train_nothing_again_and_its_code_does(folds, root):
    notebook = root / "notebooks" / "03_train.ipynb"

    def write(code, words, outputs):
        cells = [{"cell_type": "markdown", "source": [words]}]
        cells += [{"cell_type": "code", "source": code, "outputs": outputs}]
        notebook.write_text(json.dumps({"cells": cells}))
        return hashes(folds)

    before = write(["a = 1\n", "b = 2"], "# Train", [])
    assert write(["a = 1  # one\n", "b = 2"], "# Learn", [{"text": "3"}]) == before
    assert not set(write(["a = 1\n", "b = 3"], "# Train", []).values()) & set(before.values())


def test_what_is_logged_beside_a_training_trains_nothing_again(folds):
    training = folds.training.model_copy(update={"tensorboard": True, "save_every": 7})
    run, logged = (
        r.model_copy(update={"network": "last"})
        for r in (folds, folds.model_copy(update={"training": training}))
    )
    assert provenance.hash_training(run) == provenance.hash_training(logged)


def test_a_step_is_the_same_while_settings_and_sources_are(folds):
    (folds.input / "sample.csv").write_text("1")
    sources = ["output/folds/labels.csv", "input/sample/sample.csv"]
    known = provenance.hash_step(folds, "04_predict", sources)
    assert provenance.hash_step(folds, "04_predict", [*sources[::-1], "FORCE"]) == known
    assert provenance.hash_step(load_experiment("folds", {"about": "words"}), "04_predict", sources) == known
    other = load_experiment("folds", {"predict.objective": "dice"})
    assert (
        len(
            {
                known,
                provenance.hash_step(other, "04_predict", sources),
                provenance.hash_step(folds, "04_predict", sources[:1]),
            }
        )
        == 3
    )
    (folds.output / "fold_1").mkdir()
    (folds.output / "fold_1" / "model.keras").write_text("weights")
    trained = provenance.hash_step(folds, "04_predict", sources)
    (folds.input / "sample.csv").write_text("2")
    assert len({known, trained, provenance.hash_step(folds, "04_predict", sources)}) == 3


def test_files_of_settings_do_not_count_which_may_be_those_of_another_set(folds):
    stage = folds.output / "settings" / "labels.json"
    stage.parent.mkdir()
    sources = ["output/folds/labels.csv", "output/folds/settings/labels.json"]
    known = provenance.describe_step(folds, "02_labels", sources)
    stage.write_text("of another SET")
    assert provenance.describe_step(folds, "02_labels", sources) == known
    assert known["settings"]["labels"]["n_folds"] == 2
    other = load_experiment("folds", {"training.last_fit": 5, "labels.seed": 3})
    now = provenance.describe_step(other, "02_labels", sources)
    assert {**now["settings"]["labels"], "seed": 0} == known["settings"]["labels"]
    assert set(now["settings"]) == {"dataset", "labels"}


def test_a_last_fit_that_goes_on_from_a_fold_changes_with_it(folds):
    warm = hashes(folds, **{"training.warm_start": True})
    assert warm["fold_0"] == hashes(folds)["fold_0"]
    assert hashes(folds, **{"training.warm_start": True, "training.epochs": 7})["last"] != warm["last"]


def test_an_arm_that_trains_alike_has_the_same_hash(folds):
    arm = load_experiment("folds", {"variant": "flips", "predict.flips": ["horizontal"]})
    arm.output.mkdir(parents=True)
    for name in ("images.csv", "labels.csv"):
        (arm.output / name).write_text("ImageId,fold\na,0\n")
    write_digests(arm)
    one, other = (run.model_copy(update={"network": "fold_0"}) for run in (folds, arm))
    assert provenance.hash_training(one) == provenance.hash_training(other)


def test_the_report_tells_what_each_network_learned_from(folds):
    notes = {"fold_0": {"images": 3, "validation": 2}, "last": {"images": 9, "validation": 0}}
    (folds.output / "networks.json").write_text(json.dumps(notes))
    assert provenance.describe_networks(folds) == (
        "fold_0 learned from 3 images, 2 left out; last learned from 9 images, 0 left out; "
        "the test part is predicted by fold_0, fold_1, make infer by last"
    )


def test_few_steps_and_rates_that_never_come_down_are_doubted(root):
    (root / "notebooks" / "experiments" / "e.yml").write_text("dataset: sample\n")

    def judge(steps, **settings):
        return provenance.judge_training(load_experiment("e", settings), steps)

    (said,) = judge(199)
    assert said == (
        "199 training steps teach an untrained network next to nothing; give 200 or more: raise "
        "training.epochs or training.steps, or ask make plan"
    )
    encoder = {"model": {"name": "encoder_unet"}}
    assert judge(200) == judge(100, **encoder) == []
    assert "99 training steps teach a pretrained network" in judge(99, **encoder)[0]
    assert len(judge(100, model={"name": "encoder_unet", "pretrained": False})) == 1
    assert judge(100, model={"name": "backbone_unet", "weights": "own.h5"}) == []
    cosine = {"training.schedule": {"name": "cosine", "warmup_steps": 300}}
    (said,) = judge(300, **cosine)
    assert said == "the learning rate climbs to the end: training.schedule.warmup_steps=300 of 300"
    assert judge(301, **cosine) == []
    (said,) = judge(100, model={"name": "encoder_unet", "thaw_step": 100})
    assert said == "the encoder never learns: model.thaw_step=100 of 100 training steps"
    random = {"name": "backbone_unet", "frozen": True}
    assert judge(200, model=random) == [
        "model.frozen keeps weights that are random: nothing has trained them"
    ]
    assert judge(200, model={**random, "weights": "own.h5"}) == []


def test_a_last_fit_that_goes_on_from_a_fold_has_learned_something(root):
    settings = "last_fit: 1, warm_start: true, schedule: {name: cosine}"
    (root / "notebooks" / "experiments" / "e.yml").write_text(f"dataset: sample\ntraining: {{{settings}}}\n")
    assert provenance.is_pretrained(load_experiment("e", {"network": "last"}))
    assert not provenance.is_pretrained(load_experiment("e", {"network": "fold_0"}))
    assert not provenance.is_pretrained(
        load_experiment("e", {"network": "last", "training.warm_start": False})
    )
