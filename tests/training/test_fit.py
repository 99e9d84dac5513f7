import hashlib
import json
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d

from defectmill import files
from defectmill.config import ConfigError, load_experiment
from defectmill.files import DefectmillError
from defectmill.images import list_images, read_shape
from defectmill.labels import make_image_table, read_labels
from defectmill.models import build_model
from defectmill.models.losses import batch_dice
from defectmill.split import Split
from defectmill.training import fit
from defectmill.training.fit import Adam, compile_model, make_loss, make_metrics, make_optimizer, verbosity
from fake_competition import EXPERIMENT, write_fake_competition


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


def make_encoder(**settings):
    """Compiled: a stem, a stage, the last stage and a head, one convolution each."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((None, None, 1))
    for name in ("stem", "stage5_0_expand", "stage6_0_expand"):
        x = keras.layers.Conv2D(3, 3, padding="same", name=name)(x)
    outputs = keras.layers.Conv2D(4, 1, name="logits", activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    compile_model(model, load_experiment("sample", {"training.learning_rate": 0.01, **settings}))
    return model


def train_steps(model, n):
    """Largest change of each kernel, by the first word of its name, after each of n steps."""
    rng, changes = np.random.default_rng(0), []
    kernels = {v.path.split("/")[0].split("_")[0]: v for v in model.trainable_variables if v.ndim == 4}
    for _ in range(n):
        before = {name: v.numpy() for name, v in kernels.items()}
        model.train_on_batch(rng.uniform(0, 1, (2, 8, 9, 1)), rng.integers(0, 2, (2, 8, 9, 4)))
        changes.append({name: np.abs(v.numpy() - before[name]).max() for name, v in kernels.items()})
    return changes


def test_the_rate_falls_from_one_encoder_part_to_the_one_above():
    model = make_encoder(**{"model.encoder_rate": 0.5, "model.rate_decay": 0.8})
    (moved,) = train_steps(model, 1)
    shares = {"logits": 1, "stage6": 0.5, "stage5": 0.5 * 0.8, "stem": 0.5 * 0.8**7}
    assert moved == pytest.approx({name: 0.01 * share for name, share in shares.items()}, rel=1e-2)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_encoder_stays_as_it_is_before_the_thaw_step(weight_decay):
    model = make_encoder(**{"model.thaw_step": 2, "training.weight_decay": weight_decay})
    first, second, third = train_steps(model, 3)
    for moved in (first, second):
        assert [moved[part] for part in ("stem", "stage5", "stage6")] == [0, 0, 0]
        assert moved["logits"] > 1e-4
    assert min(third.values()) > 1e-4


def test_weight_decay_is_the_same_with_a_thaw_step_that_is_over():
    weights = []
    for thaw_step in (0, 1):
        model = make_encoder(**{"training.weight_decay": 0.1, "model.thaw_step": thaw_step})
        model.optimizer.iterations.assign(5)
        train_steps(model, 2)
        weights.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_by_default_it_is_keras_own_adam_to_the_last_bit():
    weights = []
    for own in (True, False):
        model = make_encoder(**{"model.encoder_rate": 1.0, "training.weight_decay": 0.01})
        if not own:
            model.compile(keras.optimizers.Adam(0.01, weight_decay=0.01), model.loss, jit_compile=False)
        train_steps(model, 3)
        weights.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_optimizer_comes_back_from_its_configuration():
    own = {"encoder_rate": 0.5, "rate_decay": 0.9, "thaw_step": 7}
    config = Adam.from_config(Adam(0.01, **own, use_ema=True, ema_momentum=0.9).get_config()).get_config()
    assert {name: config[name] for name in own} == own
    assert (config["use_ema"], config["ema_momentum"]) == (True, 0.9)


def test_the_average_of_few_steps_is_not_that_of_the_start():
    """With a momentum of 0.999 throughout, 0.98 of it would be the first step's weight after 20 more."""
    variable = keras.Variable(0.0)
    optimizer = Adam(1.0, use_ema=True, ema_momentum=0.999)
    optimizer.build([variable])
    average, values = None, []
    for n in range(21):
        optimizer.apply([np.float32(-1)])
        values.append(float(variable))
        momentum = n / (9 + n)
        average = momentum * (average or 0) + (1 - momentum) * values[-1]
    found = float(optimizer._model_variables_moving_average[0])
    assert found == pytest.approx(average, rel=1e-5)
    assert values[-5] < found < values[-1]


def test_settings_reach_the_optimizer():
    settings = {"training.clipnorm": 2.0, "training.ema": 0.9, "training.weight_decay": 0.1}
    optimizer = make_optimizer(load_experiment("sample", {**settings, "model": {"name": "unet"}}))
    assert (optimizer.global_clipnorm, optimizer.clipvalue, optimizer.weight_decay) == (2.0, None, 0.1)
    assert (optimizer.use_ema, optimizer.ema_momentum, optimizer.encoder_rate) == (True, 0.9, 1.0)
    assert (optimizer.rate_decay, optimizer.thaw_step) == (1.0, 0)
    encoder = {"model.encoder_rate": 0.3, "model.rate_decay": 0.7, "model.thaw_step": 5}
    optimizer = make_optimizer(load_experiment("sample", encoder))
    assert (optimizer.encoder_rate, optimizer.rate_decay, optimizer.thaw_step) == (0.3, 0.7, 5)
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


def test_few_steps_are_a_warning_and_enough_are_none(capsys):
    run = load_experiment("sample")
    fit.warn_of_few_steps(run, 100)
    assert capsys.readouterr().out == ""
    fit.warn_of_few_steps(run, 99)
    assert capsys.readouterr().out.startswith("WARNING: 99 training steps teach a pretrained network next to")


def test_keras_prints_only_where_somebody_watches(monkeypatch):
    monkeypatch.setattr(files, "is_unattended", lambda: False)
    assert verbosity() == "auto"
    monkeypatch.setattr(files, "is_unattended", lambda: True)
    assert verbosity() == 0


class Schooled:
    """A model whose losses are told beforehand; it notes what it was asked."""

    def __init__(self, losses):
        self.losses, self.rates, self.batches, self.resets = iter(losses), [], [], 0
        self.optimizer = SimpleNamespace(learning_rate=None)

    def reset_metrics(self):
        self.resets += 1

    def train_on_batch(self, images, masks, return_dict):
        self.rates.append(self.optimizer.learning_rate)
        self.batches.append((images, masks))
        return {"loss": next(self.losses)}


@pytest.fixture
def sweep(monkeypatch):
    """Run the learning-rate finder with these losses, on a Sequence of three batches."""

    def run_sweep(losses):
        model, batches = Schooled(losses), [("i0", "m0"), ("i1", "m1"), ("i2", "m2")]
        monkeypatch.setattr(fit, "make_sequences", lambda run, split: (batches, None))
        monkeypatch.setattr(fit, "build_model", lambda run: model)
        monkeypatch.setattr(fit, "compile_model", lambda model, run: None)
        return model, fit.find_rate(None, None)

    return run_sweep


def test_the_rates_of_the_finder_are_a_geometric_series_a_batch_each(sweep):
    model, table = sweep([2.0] * 100)
    assert list(table) == ["rate", "loss", "smoothed"]
    assert len(table) == model.resets == 100
    assert table["rate"].iloc[[0, 33, 99]].to_list() == pytest.approx([1e-6, 1e-4, 1])
    assert model.rates == table["rate"].to_list()
    assert model.batches[:4] == [("i0", "m0"), ("i1", "m1"), ("i2", "m2"), ("i0", "m0")]
    assert table["smoothed"].to_list() == pytest.approx([2.0] * 100)


def test_the_finder_stops_when_the_smoothed_loss_is_four_times_the_best(sweep):
    _, table = sweep([2.0] * 20 + [1.0] * 30 + [7.9] * 50)
    *_, before = gaussian_filter1d(table["loss"][:-1], 3)
    assert len(table) > 51
    assert before < 4 * 1.0 < table["smoothed"].iloc[-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_finder_stops_before_a_loss_that_is_no_number(sweep, bad):
    _, table = sweep([3.0, 2.0, 1.5, bad])
    assert table["loss"].to_list() == [3.0, 2.0, 1.5]
    assert np.isfinite(table["smoothed"]).all()
    assert sweep([bad])[1].empty


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_smoothed_loss():
    table = pd.DataFrame({"rate": [1e-3, 1e-2, 1e-1, 1], "loss": 0.0, "smoothed": [3.0, 2.0, 1.0, 4.0]})
    assert fit.suggest_rate(table) == pytest.approx(1e-2)


@pytest.mark.parametrize("smoothed", [[1.0, 2.0], [1.0], []])
def test_a_loss_that_never_falls_gives_no_suggestion(smoothed):
    table = pd.DataFrame({"rate": [1e-3, 1e-2][: len(smoothed)], "smoothed": smoothed})
    with pytest.raises(DefectmillError, match="falls at no learning rate"):
        fit.suggest_rate(table)


def test_the_finder_trains_the_network_of_an_experiment(root, monkeypatch):
    write_fake_competition(root / "input" / "fake", n_train=6)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    run = load_experiment("e")
    folder = run.input / "train_images"
    ids = list_images(folder)
    shapes = pd.DataFrame([(i, *read_shape(folder / i)) for i in ids], columns=["ImageId", "height", "width"])
    labels = read_labels(run.input / "train.csv", ids, 2)
    images = make_image_table(labels, shapes)
    monkeypatch.setattr(fit, "SWEEP", 12)
    table = fit.find_rate(run, Split(labels, images, images[:4], images[4:], folder))
    assert 1 < len(table) <= 12
    assert np.isfinite(table).all(axis=None)
    assert table["loss"].std() > 0


@pytest.mark.parametrize(("warm", "network"), [(True, "last"), (True, "fold_0"), (False, "last")])
def test_a_last_fit_goes_on_from_the_first_fold_where_that_is_wanted(root, warm, network):
    write_fake_competition(root / "input" / "fake", n_train=6)
    more = EXPERIMENT.replace(
        "epochs: 1,", f"epochs: 1, last_fit: 1, warm_start: {warm}, schedule: {{name: cosine}},"
    )
    (root / "notebooks" / "experiments" / "e.yml").write_text(more)
    run = load_experiment("e", {"network": network})
    model = build_model(run)
    fresh, other = [w.copy() for w in model.get_weights()], build_model(run)
    other.set_weights([w + 1 for w in fresh])
    folder = run.network_folder("fold_0")
    folder.mkdir(parents=True)
    other.save(folder / "model.keras")
    fit.warm_start(run, model)
    expected = other.get_weights() if warm and network == "last" else fresh
    for mine, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_a_last_fit_does_not_go_on_from_weights_that_are_nan(root):
    write_fake_competition(root / "input" / "fake", n_train=6)
    more = EXPERIMENT.replace(
        "epochs: 1,", "epochs: 1, last_fit: 1, warm_start: true, schedule: {name: cosine},"
    )
    (root / "notebooks" / "experiments" / "e.yml").write_text(more)
    run = load_experiment("e", {"network": "last"})
    model, broken = build_model(run), build_model(run)
    broken.get_layer("logits").bias.assign([np.nan, np.inf])
    folder = run.network_folder("fold_0")
    folder.mkdir(parents=True)
    broken.save(folder / "model.keras")
    with pytest.raises(ConfigError, match=r"fold_0/model\.keras: .* first logits/bias \(2 of 2 values\)"):
        fit.warm_start(run, model)


def test_a_kept_network_lies_beside_what_it_is(root):
    write_fake_competition(root / "input" / "fake", n_train=6)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    (root / "notebooks" / "03_train.ipynb").write_text("{}")
    run = load_experiment("e", {"data.scale": 0.5})
    run.output.mkdir(parents=True)
    (run.output / "checkpoint.keras").write_text("weights")
    for name in ("images.csv", "labels.csv"):
        (run.output / name).write_text("ImageId,fold\na,0\nb,1\nc,1\n")
    np.savez(run.output / "scans.npz", **{f"train {c}": [*"abc"] for c in ("ImageId", "digest")})
    images = pd.read_csv(run.output / "images.csv")
    fit.keep_network(run, Split(images, images, images[1:], images[:1], run.input), steps=7)
    note = json.loads((run.output / "trained.json").read_text())
    assert (note["network"], note["images"], note["validation"], note["steps"]) == ("fold_0", 2, 1, 7)
    assert note["shown"] == {"mode": "crop", "channels": 1, "shape": [16, 32], "scale": 0.5}
    assert note["from"]["settings"]["data"]["scale"] == 0.5
    assert note["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (run.output / "model.keras").read_text() == "weights"
    assert not (run.output / "checkpoint.keras").exists()
