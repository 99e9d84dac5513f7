import json

import numpy as np
import pandas as pd
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.dataset_info import ALL_CLASSES
from defectmill.evaluation import ablation
from fake_competition import make_info

LABELS = "ImageId_ClassId,EncodedPixels\na.png_1,1 4\na.png_2,\nb.png_1,\nb.png_2,3 2\n"
IMAGES = "ImageId,height,width,classes,group,fold\na.png,2,5,1,0,0\nb.png,2,5,2,1,0\n"


@pytest.fixture
def arms(root):
    """The baseline of `fake`, which has run; an arm of other flips and one of another rate."""
    (root / "input" / "fake").mkdir(parents=True)
    (root / "input" / "fake" / "dataset.json").write_text(json.dumps(make_info().model_dump()))
    (root / "notebooks" / "experiments" / "fake.yml").write_text("dataset: fake\n")
    for name in ("03_train", "04_predict"):
        (root / "notebooks" / f"{name}.ipynb").write_text("{}")
    changes = {
        "baseline": {},
        "flips": {"predict.flips": ["vertical"]},
        "rate": {"training.learning_rate": 0.1},
    }
    runs = {name: load_experiment("fake", {**some, "variant": name}) for name, some in changes.items()}
    base = runs["baseline"].output
    base.mkdir(parents=True)
    (base / "notebooks").mkdir()
    for name in ("03_train", "04_predict", "02_labels"):
        (base / "notebooks" / f"{name}.json").write_text('{"seconds": 90, "peak_mb": 7}')
    for name, text in (
        ("labels", LABELS),
        ("images", IMAGES),
        ("validation", LABELS),
        ("history", "epoch\n"),
    ):
        (base / f"{name}.csv").write_text(text)
    for name in ("model.keras", "trained.json"):
        (base / name).write_text(name)
    digests = {"train ImageId": ["a.png", "b.png"], "train digest": ["1", "2"]}
    np.savez(base / "scans.npz", **digests)
    return changes, runs


def test_arms_are_read_from_the_experiment_s_file_or_the_default_one(root):
    folder = root / "notebooks" / "ablations"
    folder.mkdir(parents=True)
    (folder / "default.yml").write_text("lite2: {model.encoder: lite2}\n")
    (folder / "steel.yml").write_text("ema: {training.ema: 0.99}\n")
    assert ablation.read_arms("steel") == {"baseline": {}, "ema": {"training.ema": 0.99}}
    assert ablation.read_arms("road") == {"baseline": {}, "lite2": {"model.encoder": "lite2"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "ablations: wanted arms"),
        ("lite2", "default.yml: wanted arms"),
        ("lite2: 3", "default.yml: wanted arms"),
        ("ema: {}\nema: {training.ema: 0.9}", r"default.yml: not YAML: line 2: 'ema' is there twice"),
        ("../x: {about: a}", "'../x' cannot be the name of an arm"),
        ("baseline: {about: a}", "'baseline' cannot be the name of an arm"),
        ("folds: {labels.n_folds: 3}", "arm 'folds' changes labels.n_folds: arms share data, folds and seed"),
    ],
)
def test_a_file_without_arms_or_with_names_that_are_no_folders_is_refused(root, text, message):
    folder = root / "notebooks" / "ablations"
    folder.mkdir(parents=True)
    if text:
        (folder / "default.yml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        ablation.read_arms("road")


def test_an_arm_has_the_tables_of_the_baseline_and_those_networks_that_it_would_train_alike(arms):
    _, runs = arms
    (runs["baseline"].output / "labelled.json").write_text("{}")
    for name, has_network in (("flips", True), ("rate", False)):
        ablation.copy_from(runs["baseline"], runs[name])
        assert (runs[name].output / "images.csv").read_text() == IMAGES
        assert (runs[name].output / "labelled.json").read_text() == "{}"
        assert (runs[name].output / "model.keras").exists() == has_network


def test_an_arm_has_run_until_something_changes_that_it_comes_from(arms, root):
    _, runs = arms
    arm = runs["baseline"]
    assert not ablation.has_run(arm)
    ablation.note_run(arm)
    assert ablation.has_run(arm)
    assert not ablation.has_run(arm.model_copy(update={"predict": runs["flips"].predict}))
    (arm.output / "labels.csv").write_text("x")
    assert not ablation.has_run(arm)


def test_the_table_has_what_each_arm_gains_over_the_baseline(arms):
    changes, runs = arms
    ablation.copy_from(runs["baseline"], runs["rate"])
    # Two images, two classes; shared, true and predicted pixels with thresholds of the other group.
    counts = np.array([[[4, 4, 4], [0, 0, 0]], [[0, 0, 0], [2, 2, 2]]])
    np.save(runs["baseline"].output / "nested.npy", counts)
    counts[0, 0] = 2, 4, 2
    np.save(runs["rate"].output / "nested.npy", counts)
    for name, dice in (("baseline", 0.9), ("rate", 0.7)):
        rows = [(ALL_CLASSES, metric, dice, 0, 1) for metric in ablation.MEASURED]
        csv = runs[name].output / "evaluation.csv"
        pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high"]).to_csv(csv, index=False)
    table = ablation.make_table({name: runs[name] for name in ("baseline", "rate")}, changes)
    assert table["arm"].tolist() == ["baseline", "rate"]
    assert table["settings"].tolist() == ["", "training.learning_rate=0.1"]
    assert table["micro_dice"].tolist() == [0.9, 0.7]
    assert table["difference"][1] == pytest.approx((4 / 6 - 1) / 2)
    assert table["verdict"].tolist() == ["baseline", "no difference shown"]
    assert table["minutes"].tolist() == [3, 0]  # of training and prediction
