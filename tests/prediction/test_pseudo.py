"""Pseudo-labels: what is taken, what is left out, what is written, on two networks of one layer."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

from defectmill.__main__ import main
from defectmill.config import ConfigError, load_experiment
from defectmill.curation.duplicates import find_groups, scan_images
from defectmill.curation.folds import ALWAYS_TRAINS, assign_folds, find_relatives
from defectmill.files import DefectmillError
from defectmill.images import list_images, read_image, write_image
from defectmill.labels import draw_masks, make_image_table, read_labels
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.pseudo import keep_agreed, write_pseudo
from defectmill.prediction.thresholds import write_thresholds
from defectmill.products.manifest import note_predictions
from fake_competition import make_info, write_fake_competition
from fake_maps import save_network

FILE = """
dataset: fake
labels: {n_folds: 2, validation_fold: every}
training: {keep: last, schedule: {name: cosine}}
data: {scale: 1.0}
predict: {flips: []}
"""


@pytest.fixture
def project(root):
    """Class 1 is where grey is below 127.5 for the first network, 64 for the second, 85.2 on average."""
    write_fake_competition(root / "input" / "fake")
    (root / "notebooks" / "experiments" / "fake.yml").write_text(FILE)
    for fold, scale in enumerate((-1 / 255, -1 / 128)):
        inputs = keras.Input((None, None, 1))
        dark = keras.layers.Rescaling(scale, offset=1.0)(inputs)
        none = keras.layers.Rescaling(0.0)(inputs)
        model = keras.Model(inputs, keras.layers.Concatenate()([dark, none]))
        save_network("fake", model, f"fold_{fold}")
    thresholds = [ClassThreshold(0.5, 0.5, 2), ClassThreshold(0.5, 0.5, 0)]
    write_thresholds(thresholds, make_info(), root / "output" / "fake" / "thresholds.json")
    (root / "parts").mkdir()
    return root


def draw_part(path, shape=(12, 20), greys=()):
    """White, with a column of 4 pixels for each grey, from (3, 5) on."""
    picture = np.full(shape, 255, np.uint8)
    picture[3:7, 5 : 5 + len(greys)] = greys
    write_image(path, picture)


def fill_parts(project):
    """A part that is agreed at a Dice of 0.8, one that is clean, one in dispute, and what is left out."""
    parts, inputs = project / "parts", project / "input" / "fake"
    draw_part(parts / "one.png", (12, 20), [0, 0, 80])
    draw_part(parts / "clean.bmp", (9, 14))
    draw_part(parts / "disputed.png", (12, 20), [100, 100])
    (parts / "broken.png").write_bytes(b"no image")
    shutil.copy(inputs / "test_images" / "bar_012.png", parts / "same.png")
    for part, name in (("test", "bar_014.png"), ("train", "bar_003.png")):
        darker = read_image(inputs / f"{part}_images" / name) // 8 * 7
        write_image(parts / f"darker_{name}", darker)


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


TOLD = (
    "7 images: 2 taken, 1 not agreed, 4 left out; 1 cannot be read; 2 of one group with a test image; "
    "1 of one group with a training image"
)


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_agreed_images_join_a_copy_of_the_dataset(project, capsys, layout):
    source, target = project / "input" / "fake", project / "input" / "fake-pseudo"
    shutil.rmtree(source)
    write_fake_competition(source, layout=layout)
    described = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps({**described, "partial": True}))
    fill_parts(project)
    main(["pseudo", "fake", "--images=parts", "--set=predict.scales=[1] seed=0"])
    assert capsys.readouterr().out.splitlines() == [
        TOLD,
        'make EXPERIMENT=fake SET="predict.scales=[1] seed=0 dataset=fake-pseudo"',
    ]
    before, after = everything(source), everything(target)
    new = ["train_images/pseudo__clean.png", "train_images/pseudo__one.png"]
    assert sorted(after.keys() - before.keys()) == new
    assert {name for name in before if before[name] != after[name]} == {"dataset.json", "train.csv"}
    written = json.loads(after["dataset.json"])
    note = f"pseudo-labels of fake at AGREEMENT=0.8: {TOLD.partition(': ')[2]}"
    wanted = {"name": "fake-pseudo", "partial": False, "notes": [note]}
    assert written == {**described, **wanted}
    ids = list_images(target / "train_images")
    labels = read_labels(target / "train.csv", ids, 2)
    old = labels[~labels["ImageId"].str.startswith("pseudo__")].reset_index(drop=True)
    assert old.equals(read_labels(source / "train.csv", list_images(source / "train_images"), 2))
    masks = draw_masks(labels, "pseudo__one.png", (12, 20), 2)
    assert masks.sum(axis=(0, 1)).tolist() == [12, 0]
    assert masks[3:7, 5:8, 0].all()
    assert not labels[labels["ImageId"] == "pseudo__clean.png"]["hasMask"].any()
    picture = read_image(target / "train_images" / "pseudo__one.png")
    np.testing.assert_array_equal(picture, read_image(project / "parts" / "one.png"))


def write(project, agreement=0.8, images="parts", **overrides):
    return write_pseudo(load_experiment("fake", overrides), images, agreement, find_relatives)


def test_the_folds_are_those_of_the_original_dataset(project):
    fill_parts(project)
    folds = {}
    for folder in (project / "input" / "fake", write(project)):
        ids = list_images(folder / "train_images")
        scan = scan_images(folder / "train_images", ids)
        images = make_image_table(read_labels(folder / "train.csv", ids, 2), scan.table)
        images["group"] = find_groups(scan, make_info())
        folds[folder.name] = dict(zip(ids, assign_folds(images, 3, seed=0).tolist(), strict=True))
    new = {"pseudo__clean.png": ALWAYS_TRAINS, "pseudo__one.png": ALWAYS_TRAINS}
    assert folds["fake-pseudo"] == {**folds["fake"], **new}
    assert set(folds["fake"].values()) == {0, 1, 2}


def test_a_second_round_begins_with_the_original_dataset_again(project, capsys):
    fill_parts(project)
    assert write(project).name == "fake-pseudo"
    (project / "parts" / "clean.bmp").unlink()
    draw_part(project / "parts" / "two.png", (9, 14), [0])
    capsys.readouterr()
    main(["pseudo", "fake", "--images=parts", "--set=dataset=fake-pseudo"])
    assert capsys.readouterr().out.splitlines()[-1] == 'make EXPERIMENT=fake SET="dataset=fake-pseudo"'
    names = list_images(project / "input" / "fake-pseudo" / "train_images")
    assert [name for name in names if "pseudo" in name] == ["pseudo__one.png", "pseudo__two.png"]
    assert len(names) == 14
    assert sorted(p.name for p in (project / "input").glob("[!.]*")) == ["fake", "fake-pseudo"]


def test_two_files_of_one_stem_are_both_taken(project):
    draw_part(project / "parts" / "a.png", (12, 20), [0])
    draw_part(project / "parts" / "a.bmp", (9, 14), [0, 0])
    names = list_images(write(project) / "train_images")
    assert names[-2:] == ["pseudo__a.bmp.png", "pseudo__a.png.png"]


def test_no_image_taken_is_an_error_and_nothing_is_written(project):
    draw_part(project / "parts" / "one.png", (12, 20), [0, 0, 80])
    told = "IMAGES=parts: 0 taken, 1 not agreed, 0 left out; give other images, or a lower AGREEMENT"
    with pytest.raises(DefectmillError, match=re.escape(told)):
        write(project, agreement=0.81)
    train = project / "input" / "fake" / "train_images"
    with pytest.raises(DefectmillError, match="0 taken, 0 not agreed, 12 left out; 12 of one group with a t"):
        write(project, images=str(train))
    assert [p.name for p in (project / "input").iterdir()] == ["fake"]


def test_test_images_that_nothing_scores_may_be_taken(project):
    (project / "input" / "fake" / "solution.csv").unlink()
    folder = write(project, images="input/fake/test_images")
    names = [name for name in list_images(folder / "train_images") if "pseudo" in name]
    assert names == ["pseudo__bar_012.png", "pseudo__bar_015.png"]


def test_the_scored_test_images_are_refused_under_any_name(project):
    (project / "link").symlink_to(project / "input" / "fake" / "test_images")
    shutil.copytree(project / "input" / "fake", project / "input" / "fake-pseudo")
    for images in ("input/fake/test_images", "link"):
        with pytest.raises(
            ConfigError, match=f"IMAGES={images}: no run may train on images that it is score"
        ):
            write(project, images=images)
    with pytest.raises(ConfigError, match="no run may train on images"):
        write(project, images="input/fake-pseudo/test_images", dataset="fake-pseudo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ""}, "say IMAGES=<folder"),
        ({"images": "nowhere"}, "nowhere: no such folder"),
        ({}, "IMAGES=parts: holds no image"),
        ({"agreement": 80}, "AGREEMENT=80: give a Dice, 0 to 1"),
        ({"labels.validation_fold": 0}, "fake: one network .* train it with labels.validation_fold=every"),
    ],
)
def test_what_cannot_be_done_is_refused(project, changes, message):
    with pytest.raises(DefectmillError, match=message):
        write(project, **changes)


def test_thresholds_of_other_networks_are_refused(project):
    draw_part(project / "parts" / "one.png", (12, 20), [0])
    note_predictions(load_experiment("fake"), {})
    network = project / "output" / "fake" / "fold_1" / "model.keras"
    network.write_bytes(network.read_bytes() + b"0")
    with pytest.raises(ConfigError, match=r"thresholds\.json: chosen for another network fold_1"):
        write(project)


def test_a_run_that_is_not_made_yet_is_refused(project):
    draw_part(project / "parts" / "one.png", (12, 20), [0])
    output = project / "output" / "fake"
    (output / "fold_1" / "model.keras").unlink()
    with pytest.raises(ConfigError, match=r"fold_1/model.keras is missing: `make train EXPERIMENT=fake`"):
        write(project)
    (output / "thresholds.json").unlink()
    with pytest.raises(ConfigError, match=r"thresholds.json is missing: `make predict EXPERIMENT=fake`"):
        write(project)
    (project / "input" / "fake").rename(project / "input" / "fake-pseudo")
    with pytest.raises(ConfigError, match="fake: make input DATASET=fake comes first"):
        write(project, dataset="fake-pseudo")


def draw_maps(*firsts, channel=0):
    """One image, a map of (2, 12, 2) for each network: 8 sure pixels of a class in the first row."""
    maps = []
    for first in firsts:
        probs = np.zeros((2, 12, 2), np.float32)
        probs[0, first : first + 8, channel] = 0.9
        maps.append(("a.png", probs))
    return tuple(maps)


@pytest.mark.parametrize("channel", [0, 1])
def test_every_pair_of_networks_must_agree_on_every_class(project, channel):
    run = load_experiment("fake")
    three = draw_maps(0, 1, 2, channel=channel)  # Dice 7/8, 7/8 and 6/8
    assert list(keep_agreed([three], run, 0.8)) == []
    ((image_id, masks),) = keep_agreed([three], run, 0.75)
    mean = np.zeros((2, 12, 2), np.uint8)
    mean[0, 1:9, channel] = 1  # two of three networks: 0.6
    assert image_id == "a.png"
    np.testing.assert_array_equal(masks, mean)
    assert len(list(keep_agreed([three[:2]], run, 0.8))) == 1
