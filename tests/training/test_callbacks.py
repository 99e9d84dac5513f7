import os
import termios
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectmill import files
from defectmill.images import read_shape
from defectmill.models import build_model
from defectmill.training import callbacks
from defectmill.training.callbacks import FiniteGuard, TrainingError, make_callbacks
from defectmill.training.fit import MONITOR, compile_model, verbosity
from fake_competition import make_info


def find(calls, kind):
    (found,) = [call for call in calls if isinstance(call, kind)]
    return found


def fit(run, train, validation):
    model = build_model(run)
    compile_model(model, run)
    how = {"epochs": train.epochs, "steps_per_epoch": train.steps_per_epoch, "verbose": verbosity()}
    calls = make_callbacks(run, train, validation)
    model.fit(train, validation_data=validation, callbacks=calls, shuffle=False, **how)
    return pd.read_csv(run.output / "history.csv")


def test_settings_reach_the_reducer(load):
    # Keras swallows a misspelt argument of this callback.
    schedule = {"name": "reduce", "factor": 0.25, "patience": 3}
    reducer = find(
        make_callbacks(*load(**{"training.schedule": schedule})), keras.callbacks.ReduceLROnPlateau
    )
    assert (reducer.factor, reducer.patience, reducer.monitor) == (0.25, 3, MONITOR)
    assert reducer.mode == "max"


def test_settings_reach_early_stop_and_checkpoint(load):
    calls = make_callbacks(*load(**{"training.early_stop": 7}))
    stop, best = (find(calls, getattr(keras.callbacks, k)) for k in ("EarlyStopping", "ModelCheckpoint"))
    assert (stop.patience, stop.monitor) == (7, MONITOR)
    assert best.save_best_only
    assert stop.mode == best.mode == "max"
    assert best.monitor == MONITOR


def test_an_older_checkpoint_is_removed(load):
    run, train, validation = load()
    (run.output / "checkpoint.keras").write_text("older")
    make_callbacks(run, train, validation)
    assert not (run.output / "checkpoint.keras").exists()


def test_the_network_of_an_earlier_training_is_set_aside_before_this_one_writes_over_its_history(load):
    run, train, validation = load()
    run.output.mkdir(parents=True, exist_ok=True)
    for name in ("model.keras", "trained.json", "history.csv", "curves.png"):
        (run.output / name).write_text(f"{name} of then")
    make_callbacks(run, train, validation)
    assert not (run.output / "trained.json").exists()
    (folder,) = (run.output / "runs" / "networks").iterdir()
    kept = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert kept == {n: f"{n} of then" for n in ("model.keras", "trained.json", "history.csv", "curves.png")}


def test_logs_for_tensorboard_are_written_beside_the_network_where_they_are_asked_for(load, monkeypatch):
    run, train, validation = load(**{"training.tensorboard": True})
    monkeypatch.setattr(callbacks, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"'training\.tensorboard': no package tensorboard; install it"):
        make_callbacks(run, train, validation)
    monkeypatch.setattr(callbacks, "find_spec", lambda name: name)
    (run.output / "tensorboard").mkdir()
    (run.output / "tensorboard" / "events of an earlier training").touch()
    log = find(make_callbacks(run, train, validation), keras.callbacks.TensorBoard)
    assert log.log_dir == str(run.output / "tensorboard")
    assert not (run.output / "tensorboard").exists()
    calls = make_callbacks(*load())
    assert not [call for call in calls if isinstance(call, keras.callbacks.TensorBoard)]


def test_averaged_weights_are_swapped_in_before_the_checkpoint(load):
    calls = make_callbacks(*load(**{"training.ema": 0.9}))
    assert isinstance(calls[0], keras.callbacks.SwapEMAWeights)


def test_cosine_climbs_to_the_rate_and_falls_to_zero(load):
    settings = {"training.schedule": {"name": "cosine", "warmup_steps": 10}, "training.learning_rate": 0.004}
    cosine = find(make_callbacks(*load(**settings, **{"training.steps": 110})), callbacks.CosineDecay)
    rates = [cosine.at(step) for step in (0, 5, 10, 60, 110)]
    assert rates == pytest.approx([0.00004, 0.00202, 0.004, 0.002, 0], abs=1e-12)


def test_one_cycle_climbs_from_its_start_to_the_rate_and_falls_to_its_end(load):
    schedule = {"name": "onecycle", "warmup_share": 0.2, "start": 0.1, "end": 0.01}
    settings = {"training.schedule": schedule, "training.learning_rate": 0.004, "training.steps": 100}
    cycle = find(make_callbacks(*load(**settings)), callbacks.OneCycle)
    rates = [cycle.at(step) for step in (0, 10, 20, 60, 100)]
    assert rates == pytest.approx([0.0004, 0.0022, 0.004, 0.00202, 0.00004], abs=1e-12)
    lowest = [cycle.rate * (0.1 + 0.9 * (1 - np.cos(np.pi * 5 / 20)) / 2)]
    assert [cycle.at(5)] == pytest.approx(lowest)


def test_one_cycle_without_a_climb_starts_at_the_rate(load):
    settings = {"training.schedule": {"name": "onecycle", "warmup_share": 0}, "training.learning_rate": 0.004}
    cycle = find(make_callbacks(*load(**settings)), callbacks.OneCycle)
    assert cycle.at(0) == 0.004
    assert cycle.at(2) == pytest.approx(0.004 * 0.0001)


def test_the_cosine_reaches_the_optimizer():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    rates, cosine = [], callbacks.CosineDecay(0.1, 1, 4)
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=1, callbacks=[cosine, note], verbose=0)
    assert rates == pytest.approx([cosine.at(step) for step in range(4)])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_checkpoint_is_the_epoch_to_keep_and_the_history_has_all(load, keep):
    # A rate that ruins the second epoch: best and last differ.
    settings = {"keep": keep, "schedule.name": "constant", "learning_rate": 0.5, "epochs": 2}
    run, train, validation = load(**{f"training.{key}": value for key, value in settings.items()})
    history = fit(run, train, validation)
    assert list(history["epoch"]) == [0, 1]
    assert np.isfinite(history[["loss", "val_loss", MONITOR]]).all(axis=None)
    model = keras.models.load_model(run.output / "checkpoint.keras")
    measured = model.evaluate(validation, verbose=0, return_dict=True)
    kept = run.training.kept_epoch(history)
    assert kept == (1 if keep == "last" else history[MONITOR].argmax())
    assert measured["foreground_dice"] == pytest.approx(history[MONITOR][kept], abs=1e-4)
    assert measured["loss"] == pytest.approx(history["val_loss"][kept], rel=1e-3)


def test_the_checkpoint_holds_the_averaged_weights_which_validation_measured(load):
    """Batch normalisation keeps the running statistics of the weights that trained."""
    settings = {"ema": 0.6, "keep": "last", "epochs": 2, "steps": 5, "learning_rate": 0.02}
    run, train, validation = load(
        **{f"training.{key}": value for key, value in settings.items()}, **{"model.normalization": "batch"}
    )
    model, steps = build_model(run), []
    compile_model(model, run)
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append([w.numpy() for w in model.weights])
    )
    calls = [*make_callbacks(run, train, validation), note]
    how = {"epochs": 2, "steps_per_epoch": 5, "verbose": 0, "shuffle": False}
    model.fit(train, validation_data=validation, callbacks=calls, **how)
    averages = steps[0]
    for n, weights in enumerate(steps[1:], 1):
        momentum = min(0.6, n / (9 + n))
        averages = [momentum * a + (1 - momentum) * w for a, w in zip(averages, weights, strict=True)]
    saved = keras.models.load_model(run.output / "checkpoint.keras")
    assert len(steps) == 10
    assert {w.trainable for w in saved.weights} == {True, False}
    moved = []
    for weight, average, raw in zip(saved.weights, averages, steps[-1], strict=True):
        np.testing.assert_allclose(weight, average if weight.trainable else raw, rtol=1e-4, atol=1e-5)
        moved.append(np.abs(average - raw).max())
    assert max(moved) > 0.01  # so that one cannot be taken for the other
    measured = saved.evaluate(validation, verbose=0, return_dict=True)
    last = pd.read_csv(run.output / "history.csv").iloc[-1]
    assert measured["loss"] == pytest.approx(last["val_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"name": "constant"}, [0.01, 0.01]),
        ({"name": "reduce", "factor": 0.5, "patience": 1}, [0.01, 0.01]),
        ({"name": "cosine"}, [0.01 * (1 + np.cos(np.pi * last / 4)) / 2 for last in (1, 3)]),
        ({"name": "onecycle", "warmup_share": 0.25, "start": 0.5, "end": 0}, [0.01, 0.0025]),
    ],
)
def test_the_history_has_the_learning_rate_of_every_schedule(load, schedule, rates):
    settings = {"training.epochs": 2, "training.learning_rate": 0.01, "training.schedule": schedule}
    assert list(fit(*load(**settings))["learning_rate"]) == pytest.approx(rates)


def test_under_make_an_epoch_is_one_printed_line_and_steps_move_on_the_terminal(load, monkeypatch, capfd):
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 120))
    monkeypatch.setenv("DEFECTMILL_TERMINAL", os.ttyname(writer))
    monkeypatch.setattr(files, "is_unattended", lambda: True)
    monkeypatch.setattr(callbacks, "DELAY", 0)
    fit(*load(**{"training.epochs": 2, "training.metrics": ["batch_dice"]}))
    os.set_blocking(reader, False)
    moving = os.read(reader, 10_000).decode()
    assert "epoch 1/2, step 1/2: loss " in moving
    assert " left" in moving
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith("epoch 1/2: ")
    words = [part.split()[0] for part in second.split(", ")[1:]]
    assert words[:5] == ["loss", "val_loss", "foreground_dice", MONITOR, "batch_dice"]
    assert sorted(words[5:]) == ["learning_rate", "val_batch_dice"]


@pytest.mark.parametrize("terminal", [None, "/dev/no-such-terminal"])
def test_without_a_terminal_there_are_printed_lines_only(load, monkeypatch, capfd, terminal):
    if terminal:
        monkeypatch.setenv("DEFECTMILL_TERMINAL", terminal)
    progress = callbacks.TerminalProgress()
    progress.set_params({"epochs": 3, "steps": 2})
    progress.on_epoch_begin(1)
    progress.on_train_batch_end(0, {"loss": 0.5, "foreground_dice": 0.25})
    progress.on_epoch_end(
        1, {"loss": 0.51239, "val_loss": 1e20, "foreground_dice": 0.5, "learning_rate": 1e-4}
    )
    said = capfd.readouterr()
    assert (
        said.out == "epoch 2/3: 0 s, loss 0.5124, val_loss 1e+20, foreground_dice 0.5, learning_rate 0.0001\n"
    )
    assert said.err == ""


def stop(load, **settings):
    """What a training that must stop says, and the folder it leaves."""
    run, train, validation = load(**settings)
    with pytest.raises(TrainingError) as caught:
        fit(run, train, validation)
    return str(caught.value), run.output


def test_a_rate_that_is_far_too_high_stops_at_the_first_loss_that_is_nan(load):
    settings = {"training.learning_rate": 1e30, "training.steps": 3, "training.epochs": 2}
    said, folder = stop(load, **settings)
    assert said == (
        "epoch 1, step 2 of 3: the loss is nan, at a learning rate of 1e+30. Likely causes: the rate is too "
        "high: set training.learning_rate=1e+29, or what make rates suggests; gradients are not clipped: set "
        "training.clipnorm=1; a term of training.loss (cross_entropy, dice): try others"
    )
    assert not (folder / "checkpoint.keras").exists()
    assert not (folder / "model.keras").exists()


def test_clipped_gradients_are_no_cause(load):
    said, _ = stop(load, **{"training.learning_rate": 1e30, "training.clipnorm": 1.0})
    assert "gradients are not clipped" not in said


def test_a_checkpoint_of_an_earlier_epoch_stays_and_none_of_nan_takes_its_place(load):
    """The second epoch's last update breaks the weights, after a loss that was still a number."""
    run, train, validation = load(**{"training.epochs": 3, "training.keep": "last"})
    model = build_model(run)
    compile_model(model, run)

    def break_weights(batch, logs):
        if int(model.optimizer.iterations) == 4:
            model.get_layer("logits").bias.assign([np.nan, 0.0])

    calls = [
        *make_callbacks(run, train, validation),
        keras.callbacks.LambdaCallback(on_train_batch_end=break_weights),
    ]
    how = {"epochs": 3, "steps_per_epoch": train.steps_per_epoch, "verbose": 0, "shuffle": False}
    said = (
        r"epoch 2, step 2 of 2: the loss was \d\.\d+, and then weights are nan or inf, first "
        r"logits/bias \(1 of 2 values\), at a learning rate of 0.001"
    )
    with pytest.raises(TrainingError, match=said):
        model.fit(train, validation_data=validation, callbacks=calls, **how)
    kept = keras.models.load_model(run.output / "checkpoint.keras")
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())
    assert len(pd.read_csv(run.output / "history.csv")) == 1


def test_weights_that_are_nan_before_the_first_step_stop_a_training(load):
    run, train, validation = load()
    model = build_model(run)
    compile_model(model, run)
    model.get_layer("logits").bias.assign([0.0, np.inf])
    with pytest.raises(TrainingError, match=r"before the first step, first logits/bias \(1 of 2 values\)"):
        model.fit(train, callbacks=make_callbacks(run, train, validation), verbose=0)


@pytest.fixture
def guard(load):
    """A guard at the first step of a training whose batch is all there is to know."""

    def make(batch=None, **settings):
        run, train, _ = load(**settings)
        guard = FiniteGuard(run, train, SimpleNamespace(on_train_end=lambda: None))
        guard.set_model(build_model(run))
        compile_model(guard.model, run)
        if batch:
            train.__class__ = type("Broken", (type(train),), {"__getitem__": lambda self, step: batch})
        guard.on_epoch_begin(0)
        return guard

    return make


def test_at_the_first_step_no_rate_is_the_cause(guard):
    with pytest.raises(TrainingError) as caught:
        guard().on_train_batch_end(0, {"loss": np.inf})
    assert str(caught.value) == (
        "epoch 1, step 1 of 2: the loss is inf, at a learning rate of 0.001. Likely causes: "
        "a term of training.loss (cross_entropy, dice): try others"
    )


def test_broken_pixels_and_labels_of_the_batch_come_first(guard):
    batch = np.full((2, 3, 4, 1), np.nan, np.float32), np.full((2, 3, 4, 2), -7, np.float32)
    with pytest.raises(
        TrainingError, match=r"Likely causes: pixels of this .*; labels .* but -7 to -7; the rate"
    ):
        guard(batch).on_train_batch_end(1, {"loss": np.nan})


def test_the_batch_of_a_training_that_goes_on_is_found(guard):
    stopped, asked = guard(), []
    stopped.train.first = 3
    batch = np.ones((2, 3, 4, 1), np.float32), np.ones((2, 3, 4, 2), np.float32)
    get = lambda self, index: asked.append(index) or batch  # noqa: E731
    stopped.train.__class__ = type("Noted", (type(stopped.train),), {"__getitem__": get})
    stopped.on_epoch_begin(2)
    with pytest.raises(TrainingError, match="epoch 3, step 2 of 2"):
        stopped.on_train_batch_end(1, {"loss": np.nan})
    assert asked == [2]  # the sixth of all, where the fourth is the first


def test_half_precision_is_a_cause_where_it_is_set(guard):
    stopped = guard()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(TrainingError, match="Likely causes: Keras computes in mixed_float16"):
            stopped.on_train_batch_end(1, {"loss": np.nan})
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_validation_loss_that_is_nan_stops_and_a_last_fit_has_none(guard):
    stopped = guard()
    stopped.on_epoch_end(0, {"loss": 0.5})
    with pytest.raises(TrainingError, match="the loss of the validation images is nan"):
        stopped.on_epoch_end(0, {"loss": 0.5, "val_loss": np.nan})


def test_the_guard_stands_between_averaged_weights_and_the_checkpoint(load):
    kinds = [type(call).__name__ for call in make_callbacks(*load(**{"training.ema": 0.9}))]
    assert kinds[:4] == ["SwapEMAWeights", "FiniteGuard", "LearningRateLog", "Checkpoint"]


def preview(load, n_epochs, share):
    run, _, validation = load(**{"training.previews": 3})
    inputs = keras.Input((None, None, 1))
    darkness = keras.layers.Rescaling(-1 / 255, offset=1.0)(inputs)
    previews = callbacks.Previews(run, validation.pictures, share)
    previews.set_model(keras.Model(inputs, keras.layers.Concatenate()([darkness, darkness])))
    previews.on_train_begin()
    for epoch in range(n_epochs):
        previews.on_epoch_begin(epoch)
        previews.on_epoch_end(epoch)
    previews.on_train_end()
    return run.output


def test_every_epoch_has_its_strip_and_the_film_all_of_them(load):
    output = preview(load, 3, share=1e9)
    assert [p.name for p in sorted((output / "previews").iterdir())] == [
        f"epoch_00{n}.png" for n in (1, 2, 3)
    ]
    with Image.open(output / "previews.gif") as film:
        assert film.size[::-1] == read_shape(output / "previews" / "epoch_001.png")
    assert {p.name for p in output.glob("*preview*")} == {"previews", "previews.gif"}


def test_previews_that_take_long_are_drawn_after_fewer_epochs_and_it_says_so(load, capsys):
    output = preview(load, 5, share=1e-12)
    assert len(list((output / "previews").iterdir())) == 1
    assert "the next one after" in capsys.readouterr().out


def test_previews_show_the_classes_in_turn_then_clean_images():
    runs = {"a": {1: "1 1"}, "b": {1: "1 1"}, "c": {2: "1 1"}, "d": {}}
    assert callbacks.choose_pictures(runs, 2) == ["a", "c"]
    assert callbacks.choose_pictures(runs, 6) == ["a", "c", "b", "d"]


def test_a_strip_shows_truth_above_prediction():
    image = np.full((20, 40, 1), 128, np.uint8)
    truth, predicted = np.zeros((2, 20, 40, 2), np.uint8)
    truth[:, :20, 0], predicted[:, 20:, 1] = 1, 1
    info = make_info(n_classes=2)
    strip = callbacks.draw_strip([image] * 3, [truth] * 3, [predicted] * 3, info, "epoch 1")
    half = strip.shape[0] // 2
    coloured = strip.max(axis=2).astype(int) - strip.min(axis=2) > 30
    upper, lower = (np.argwhere(part[25:]).min(axis=0)[1] for part in (coloured[:half], coloured[half:]))
    assert upper < 5
    assert 110 < lower < 130
    named = {tuple(int(v) for v in pixel) for pixel in strip[:18].reshape(-1, 3)}
    assert named >= {kind.colour for kind in info.classes}
