import keras
import numpy as np
import pytest

from defectmill import files
from defectmill.config import load_experiment
from defectmill.models.losses import batch_dice
from defectmill.training.fit import compile_model, make_loss, make_metrics, make_optimizer, verbosity


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
def test_a_pretrained_encoder_has_a_share_of_the_learning_rate(weight_decay):
    """The first step of Adam is its learning rate, whatever the gradient."""
    inputs = keras.Input((None, None, 1))
    features = keras.layers.Conv2D(3, 3, padding="same", name="stem")(inputs)
    outputs = keras.layers.Conv2D(4, 1, name="logits", activation="sigmoid")(features)
    model = keras.Model(inputs, outputs)
    settings = {
        "training.weight_decay": weight_decay,
        "training.learning_rate": 0.01,
        "model.encoder_rate": 0.1,
    }
    before = {v.path: v.numpy() for v in model.trainable_variables}
    compile_model(model, load_experiment("sample", settings))
    rng = np.random.default_rng(0)
    model.train_on_batch(rng.uniform(0, 1, (2, 8, 9, 1)), rng.integers(0, 2, (2, 8, 9, 4)))
    moved = {v.path: np.abs(v.numpy() - before[v.path]).max() for v in model.trainable_variables}
    assert moved["logits/kernel"] == pytest.approx(0.01, rel=1e-2)
    assert moved["stem/kernel"] == pytest.approx(0.001, rel=1e-2)


def test_settings_reach_the_optimizer():
    settings = {"training.clipnorm": 2.0, "training.ema": 0.9, "training.weight_decay": 0.1}
    optimizer = make_optimizer(load_experiment("sample", {**settings, "model": {"name": "unet"}}))
    assert (optimizer.global_clipnorm, optimizer.clipvalue, optimizer.weight_decay) == (2.0, None, 0.1)
    assert (optimizer.use_ema, optimizer.ema_momentum, optimizer.encoder_rate) == (True, 0.9, 1.0)
    plain = make_optimizer(load_experiment("sample", {"training.clipvalue": 0.5}))
    assert (plain.global_clipnorm, plain.clipvalue, plain.weight_decay, plain.use_ema) == (
        None,
        0.5,
        None,
        False,
    )


def test_settings_reach_loss_and_metrics():
    settings = {
        "training.loss": {"focal": 2.0},
        "training.metrics": ["batch_dice"],
        "model.head": "multiclass",
    }
    run = load_experiment("sample", settings)
    loss, (foreground, extra) = make_loss(run), make_metrics(run)
    assert (loss.head, loss.weights) == ("multiclass", {"focal": 2.0})
    assert (foreground.name, foreground.n_classes, foreground.head) == ("foreground_dice", 4, "multiclass")
    assert extra is batch_dice


def test_keras_prints_only_where_somebody_watches(monkeypatch):
    monkeypatch.setattr(files, "is_unattended", lambda: False)
    assert verbosity() == "auto"
    monkeypatch.setattr(files, "is_unattended", lambda: True)
    assert verbosity() == 0
