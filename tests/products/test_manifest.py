"""Products that were edited, cut short or taken from elsewhere are refused by who reads them."""

import json
import re
import shutil

import numpy as np
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.products import manifest
from defectmill.split import load_split

FOLDS = "labels: {validation_fold: every, n_folds: 2}\ntraining: {keep: last, schedule: {name: cosine}}\n"


@pytest.fixture
def run(root):
    """An experiment of two folds after 02, 03 and 04."""
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n" + FOLDS)
    run = load_experiment("mine")
    run.input.mkdir()
    (run.input / "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 3\n")
    run.output.mkdir(parents=True)
    images = "ImageId,height,width,classes,group,fold\na.png,3,5,1,0,0\nb.png,3,5,,1,1\n"
    (run.output / "images.csv").write_text(images)
    (run.output / "labels.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,1 3\nb.png_1,\n")
    columns = {"train ImageId": ["a.png", "b.png"], "train digest": ["1", "2"]}
    np.savez(run.output / "scans.npz", **columns, **{"test ImageId": ["c.png"], "test digest": ["3"]})
    manifest.note_labels(run)
    for network in run.networks:
        folder = run.network_folder(network)
        folder.mkdir()
        (folder / "model.keras").write_text(f"weights of {network}")
        note = {"sha256": manifest.hash_file(folder / "model.keras")}
        (folder / "trained.json").write_text(json.dumps(note))
    for name in (*manifest.CHOSEN, *manifest.MEASURED):
        (run.output / name).write_text(name)
    run.submission.parent.mkdir()
    run.submission.write_text("submitted")
    manifest.note_predictions(run, {"predict.flips": ["both"]})
    return run


def check_all(run):
    manifest.check_tables(run, "fold_0")
    manifest.check_predictions(run, is_whole=True)
    for network in run.networks:
        manifest.check_network(run, run.network_folder(network) / "model.keras")


def test_what_was_written_is_taken(run):
    check_all(run)
    assert manifest.read_note(run.output / "predicted.json")["overrides"] == {"predict.flips": ["both"]}


def test_products_of_earlier_versions_say_nothing_and_are_taken(run):
    for name in ("labelled.json", "predicted.json", "fold_0/trained.json", "fold_1/trained.json"):
        (run.output / name).unlink()
    for name in ("labels.csv", "thresholds.json", "fold_0/model.keras"):
        (run.output / name).write_text("of then")
    check_all(run)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("images.csv", "images.csv: not as 02 wrote it, edited or cut short: delete it, and `make labels"),
        ("labels.csv", "labels.csv: not as 02 wrote it"),
        ("scans.npz", "scans.npz: not as 02 wrote it"),
        ("thresholds.json", "thresholds.json: not as 04 wrote it, edited or cut short: delete it"),
        ("training_statistics.json", "training_statistics.json: not as 04 wrote it"),
        ("validation.csv", "validation.csv: not as 04 wrote it"),
        ("../../submissions/mine.csv", "submissions/mine.csv: not as 04 wrote it"),
        ("fold_1/model.keras", "fold_1/model.keras: not the network that trained.json beside it tells of"),
        ("../../input/sample/train.csv", "train.csv: changed since 02 read it: `make labels EXPERIMENT"),
    ],
)
def test_one_byte_less_is_refused_with_what_to_do(run, name, said):
    path = run.output / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_all(run)


def test_a_split_reads_no_edited_table(run):
    assert load_split(run).images["fold"].tolist() == [0, 1]
    (run.output / "labels.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,1 3\n")
    with pytest.raises(ConfigError, match=r"labels\.csv: not as 02 wrote it"):
        load_split(run)


def test_a_network_trains_by_no_folds_of_other_settings(run):
    other = load_experiment("mine", {"labels.n_folds": 3})
    manifest.check_tables(other)  # a plan may ask what other folds would cost
    said = r"images\.csv: made with other settings \(labels\.n_folds 2 -> 3\): `make labels EXPERIMENT=mine`"
    with pytest.raises(ConfigError, match=said):
        manifest.check_tables(other, "fold_0")
    manifest.check_tables(load_experiment("mine", {"labels.validation_fold": 1}), "fold_1")


def test_thresholds_of_another_network_are_refused_though_it_says_what_it_is(run):
    for name in ("model.keras", "trained.json"):
        shutil.copyfile(run.output / "fold_0" / name, run.output / "fold_1" / name)
    said = r"thresholds\.json: chosen for another network fold_1 than there is now: `make predict EXP"
    with pytest.raises(ConfigError, match=said):
        manifest.check_predictions(run)


def test_a_report_is_made_of_no_predictions_of_other_labels(run):
    (run.output / "labels.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,1 4\nb.png_1,\n")
    manifest.note_labels(run)  # 02 ran again
    manifest.check_predictions(run)  # an inspection goes by the networks
    with pytest.raises(ConfigError, match=r"validation\.csv: predicted with another labels\.csv: `make"):
        manifest.check_predictions(run, is_whole=True)


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[1]", "holds list, not a note")])
def test_a_broken_note_is_told_with_its_file(tmp_path, text, said):
    (tmp_path / "labelled.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"labelled\.json: {said}.* delete it, and make again"):
        manifest.read_note(tmp_path / "labelled.json")
    assert manifest.read_note(tmp_path / "none") == {}


def test_changes_of_settings_are_told_one_by_one():
    then = {"training": {"steps": 200, "loss": {"dice": 1.0}}, "seed": 0, "predict": {"tiles": None}}
    now = {"training": {"steps": 300, "loss": {"dice": 0.5}}, "seed": 0, "predict": {"tiles": {"overlap": 8}}}
    assert manifest.tell_changes(then, now) == [
        "training.steps 200 -> 300",
        'training.loss {"dice":1.0} -> {"dice":0.5}',
        "predict.tiles.overlap null -> 8",
    ]
    assert manifest.tell_set({"training": {"steps": 3}, "data.shape": [16, 32]}) == (
        "training.steps=3 data.shape=[16,32]"
    )
