import keras
import numpy as np
import pandas as pd
import pytest

from defectmill import config
from defectmill.config import load_experiment
from defectmill.held_out import HeldOutSequence
from defectmill.models import build_model
from defectmill.sequence import DefectSequence
from defectmill.training import MEASURE, CosineRate, compile_model, fit, make_callbacks
from fake_competition import write_fake_competition

SMALL = {
    "model.name": "unet",
    "model.widths": [4, 8],
    "model.up_widths": [4],
    "data.shape": [16, 32],
    "data.scale": 1.0,
    "training.batch_size": 4,
    "training.epochs": 2,
    "training.steps": 3,
}


def callback(experiment, kind, total_steps=9):
    callbacks = make_callbacks(experiment, "c.keras", "h.csv", total_steps)
    (found,) = [c for c in callbacks if isinstance(c, kind)]
    return found


def test_knobs_reach_the_rate_reducer():
    # Keras swallows a misspelt argument of this callback.
    knobs = {"training.schedule": "reduce", "training.reducer_factor": 0.25,
             "training.reducer_patience": 3}  # fmt: skip
    reducer = callback(load_experiment("sample", knobs), keras.callbacks.ReduceLROnPlateau)
    assert (reducer.factor, reducer.patience, reducer.monitor) == (0.25, 3, MEASURE)
    assert reducer.mode == "max"


def test_knobs_reach_early_stop_and_checkpoint():
    experiment = load_experiment("sample", {"training.early_stop": 7})
    stop = callback(experiment, keras.callbacks.EarlyStopping)
    best = callback(experiment, keras.callbacks.ModelCheckpoint)
    assert (stop.patience, stop.monitor) == (7, MEASURE)
    assert best.save_best_only
    assert stop.mode == best.mode == "max"
    assert best.monitor == MEASURE


def test_cosine_climbs_to_the_rate_and_falls_to_zero():
    knobs = {"training.schedule": "cosine", "training.warmup_steps": 10,
             "training.learning_rate": 0.004}  # fmt: skip
    cosine = callback(load_experiment("sample", knobs), CosineRate, total_steps=110)
    assert cosine.at(0) == pytest.approx(0.00004)
    assert cosine.at(5) == pytest.approx(0.00202)
    assert cosine.at(10) == pytest.approx(0.004)
    assert cosine.at(60) == pytest.approx(0.002)
    assert cosine.at(110) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
def test_a_pretrained_encoder_moves_at_a_share_of_the_rate(weight_decay):
    """The first step of Adam is its learning rate, whatever the gradient."""
    inputs = keras.Input((None, None, 1))
    features = keras.layers.Conv2D(3, 3, padding="same", name="stem")(inputs)
    outputs = keras.layers.Conv2D(4, 1, name="logits", activation="sigmoid")(features)
    model = keras.Model(inputs, outputs)
    knobs = {"weight_decay": weight_decay, "learning_rate": 0.01, "encoder_rate": 0.1,
             "schedule": "reduce"}  # fmt: skip
    before = {v.path: v.numpy() for v in model.trainable_variables}
    compile_model(model, load_experiment("sample", {"training": knobs}))
    rng = np.random.default_rng(0)
    model.train_on_batch(rng.uniform(0, 1, (2, 8, 9, 1)), rng.integers(0, 2, (2, 8, 9, 4)))
    moved = {v.path: np.abs(v.numpy() - before[v.path]).max() for v in model.trainable_variables}
    assert moved["logits/kernel"] == pytest.approx(0.01, rel=1e-2)
    assert moved["stem/kernel"] == pytest.approx(0.001, rel=1e-2)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The sample's experiment on a fake competition, in a root of its own."""
    real = config.ROOT
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "experiments").symlink_to(real / "notebooks" / "experiments")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    write_fake_competition(tmp_path / "input" / "fake")
    return load_experiment("sample", {**SMALL, "dataset": "fake"})


@pytest.mark.parametrize("keep", ["best", "last"])
def test_fit_keeps_the_epoch_it_says_and_the_history(experiment, keep):
    from defectmill import labels
    from defectmill.image_table import make_image_table
    from defectmill.images import list_images

    # A rate that ruins the second epoch: best and last differ.
    ruined = {"keep": keep, "schedule": "constant", "learning_rate": 0.5}
    experiment = experiment.model_copy(
        update={"training": experiment.training.model_copy(update=ruined)}
    )
    folder = experiment.input / "train_images"
    table = labels.read_labels(experiment.input / "train.csv", list_images(folder),
                               len(experiment.card.classes))  # fmt: skip
    images = make_image_table(folder, table)
    train = DefectSequence.of(experiment, table, images)
    check = HeldOutSequence.of(experiment, table, images)
    fit(build_model(experiment), train, check, experiment)
    history = pd.read_csv(experiment.output / "history.csv")
    assert list(history["epoch"]) == [0, 1]
    assert np.isfinite(history[["loss", "val_loss", MEASURE]]).all(axis=None)
    model = keras.models.load_model(experiment.output / "checkpoint.keras")
    measured = model.evaluate(check, verbose=0, return_dict=True)
    kept = experiment.training.kept_epoch(history[MEASURE])
    assert kept == (1 if keep == "last" else history[MEASURE].argmax())
    assert measured["foreground_dice"] == pytest.approx(history[MEASURE][kept], abs=1e-4)
    assert measured["loss"] == pytest.approx(history["val_loss"][kept], rel=1e-3)


def test_the_cosine_reaches_the_optimizer():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    rates, cosine = [], CosineRate(0.1, 1, 4)
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=1, callbacks=[cosine, note], verbose=0)
    assert rates == pytest.approx([cosine.at(step) for step in range(4)])
