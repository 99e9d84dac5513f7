"""The flat folder that Kaggle gets: what is in it, and that it is read back as it was written."""

import json

import keras
import numpy as np
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.kaggle import bundle
from defectmill.kaggle.metadata import Place
from defectmill.models import build_model, load_networks
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import write_thresholds
from fake_competition import write_fake_competition
from fake_maps import save_network

FILE = """
dataset: fake
labels: {n_folds: 2, validation_fold: every}
data: {mode: crop, shape: [16, 32]}
model: {widths: [4, 8], up_widths: [4]}
training: {epochs: 1, keep: last, schedule: {name: cosine}}
predict: {flips: [vertical], scales: [1.0, 1.25]}
"""
PLACE = Place("jane", "steel", 8.5)
CHOSEN = [ClassThreshold(0.1 + 0.2, 0.5, 3), ClassThreshold(0.7, 0.9, 0, True, 0.25)]


@pytest.fixture
def run(root, monkeypatch):
    write_fake_competition(root / "input" / "fake")
    (root / "notebooks" / "experiments" / "e.yml").write_text(FILE)
    run = load_experiment("e")
    for n, name in enumerate(run.networks):
        save_network("e", build_model(run.model_copy(update={"seed": n})), name)
    write_thresholds(CHOSEN, run.info, run.output / "thresholds.json")
    monkeypatch.setattr(
        bundle, "build_wheel", lambda folder: (folder / "d-0-py3-none-any.whl").write_text("w")
    )
    return run


def test_the_folder_is_flat_and_its_manifest_names_every_file_but_what_kaggle_is_told(run):
    home = bundle.write_kernel(run, PLACE)
    assert {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()} == {
        "dataset/d-0-py3-none-any.whl",
        "dataset/dataset-metadata.json",
        "dataset/e-fold_0.weights.h5",
        "dataset/e-fold_1.weights.h5",
        "dataset/manifest.json",
        "dataset/settings.json",
        "dataset/thresholds.json",
        "notebook/kernel-metadata.json",
        "notebook/predict.ipynb",
    }
    named = json.loads((home / "dataset" / "manifest.json").read_text())["files"]
    there = {p.name for p in (home / "dataset").iterdir()}
    assert there - {*named} == {"manifest.json", "dataset-metadata.json"}
    assert "seconds = 30600\\n" in (home / "notebook" / "predict.ipynb").read_text()


def test_what_is_read_back_predicts_the_same_by_the_same_settings_and_thresholds(run):
    read = bundle.read_bundle(bundle.write_kernel(run, PLACE) / "dataset")
    assert (read.experiment, read.competition, read.info) == ("e", "steel", run.info)
    assert read.thresholds == CHOSEN
    image = np.random.default_rng(1).integers(0, 255, (1, 37, 53, 1)).astype(np.float32)
    here, there = load_networks(run, "test"), read.load_networks()
    assert [one.network for one, _ in there] == ["fold_0", "fold_1"]
    for (one, model), (other, rebuilt) in zip(here, there, strict=True):
        assert (other.predict, other.data, other.model) == (one.predict, one.data, one.model)
        np.testing.assert_array_equal(rebuilt.predict_on_batch(image), model.predict_on_batch(image))


def test_an_ensemble_takes_the_networks_of_its_members_along(run, root):
    other = FILE.replace("[vertical]", "[horizontal]").replace("[4, 8]", "[6, 8]")
    (root / "notebooks" / "experiments" / "f.yml").write_text(other)
    (root / "notebooks" / "experiments" / "both.yml").write_text(
        "dataset: fake\nmembers: [e, f]\nlabels: {n_folds: 2, validation_fold: every}\n"
    )
    for name in ("fold_0", "fold_1"):
        save_network("f", build_model(load_experiment("f")), name)
    both = load_experiment("both")
    write_thresholds(CHOSEN, both.info, both.output / "thresholds.json")
    read = bundle.read_bundle(bundle.write_kernel(both, PLACE) / "dataset")
    told = [(one.name, one.network, one.predict.flips) for one, _ in read.load_networks()]
    assert told == [
        ("e", "fold_0", ("vertical",)),
        ("e", "fold_1", ("vertical",)),
        ("f", "fold_0", ("horizontal",)),
        ("f", "fold_1", ("horizontal",)),
    ]


@pytest.mark.parametrize("name", ["e-fold_0.weights.h5", "settings.json", "d-0-py3-none-any.whl"])
def test_a_file_that_changed_on_the_way_or_is_missing_is_named(run, name):
    folder = bundle.write_kernel(run, PLACE) / "dataset"
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match=f"{name}: missing, or not the file that manifest.json tells of"):
        bundle.read_bundle(folder)
    path.unlink()
    with pytest.raises(ConfigError, match=f"{name}: missing"):
        bundle.read_bundle(folder)
    path.write_bytes(whole)
    bundle.read_bundle(folder)


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"files": {}}'])
def test_a_folder_that_is_no_bundle_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    (tmp_path / "settings.json").write_text("{}")
    refusal = r"not a folder that `make kernel` wrote|manifest\.json: (not JSON|holds list)"
    with pytest.raises(ConfigError, match=refusal):
        bundle.read_bundle(tmp_path)


def test_a_network_that_the_code_of_now_builds_otherwise_is_refused_and_nothing_written(run, monkeypatch):
    inputs = keras.Input((None, None, 1))
    for made, built, why in (
        (
            keras.layers.Conv2D(2, 1),
            keras.layers.Conv2D(2, 3),
            "not the weights of the network that e has now",
        ),
        (
            keras.layers.Conv2D(2, 3, padding="same"),
            keras.layers.Conv2D(2, 3, padding="same", activation="relu"),
            "the code of now builds another network",
        ),
    ):
        save_network("e", keras.Model(inputs, made(inputs)), "fold_0")
        other = keras.Model(inputs, built(inputs))
        monkeypatch.setattr("defectmill.models.build_model", lambda run, pretrained, other=other: other)
        with pytest.raises(ConfigError, match=why):
            bundle.write_kernel(run, PLACE)
        assert not (run.output / "kernel").exists()


def test_without_thresholds_make_predict_is_named(run):
    (run.output / "thresholds.json").unlink()
    with pytest.raises(ConfigError, match="make predict EXPERIMENT=e"):
        bundle.write_kernel(run, PLACE)
