"""Exact resume: a training that was stopped anywhere ends as one that never was, to the bit."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from defectmill import files
from defectmill.config import ConfigError
from defectmill.models import build_model
from defectmill.products import provenance, stopped
from defectmill.split import Split
from defectmill.training import fit, resume
from defectmill.training.callbacks import TrainingError, make_callbacks
from defectmill.training.fit import compile_model
from defectmill.training.resume import (
    RESUME,
    Checkpoint,
    find_state,
    list_states,
    put_back,
    read_note,
    take_up,
    write_state,
)
from fake_competition import EXPERIMENT, write_fake_competition


class Stopped(Exception):  # noqa: N818
    """In place of a kill: nothing of the training runs after it."""


class Stop(keras.callbacks.Callback):
    """Stops after so many hooks: ends of steps that were trained, and ends of epochs."""

    def __init__(self, after):
        super().__init__()
        self.left, self.steps = after, 0

    def on_train_batch_end(self, batch, logs=None):
        steps = int(self.model.optimizer.iterations)
        if steps > self.steps:  # else it was done before
            self._count()
        self.steps = steps

    def on_epoch_end(self, epoch, logs=None):
        self._count()

    def on_epoch_begin(self, epoch, logs=None):
        self.steps = int(self.model.optimizer.iterations)

    def _count(self):
        if self.left == 0:
            raise Stopped
        self.left -= 1


@pytest.fixture
def save_always(monkeypatch):
    monkeypatch.setattr(resume, "SHARE", np.inf)


def find(calls, kind):
    (found,) = [call for call in calls if isinstance(call, kind)]
    return found


def train(load, after=-1, is_lost=False, **settings):
    """Train as 03 does, up to a stop: the history, and all that the kept model and the last one are.

    `is_lost`: it stops before the state is saved.
    """
    run, sequence, validation = load(**{"training.save_every": 0, **settings})
    model = build_model(run)
    compile_model(model, run)
    calls = make_callbacks(run, sequence, validation)
    calls.insert(len(calls) - is_lost, Stop(after))
    steps = sequence.steps_per_epoch
    how = {"initial_epoch": sequence.first // steps, "epochs": sequence.epochs, "steps_per_epoch": steps}
    try:
        model.fit(sequence, validation_data=validation, callbacks=calls, shuffle=False, verbose=0, **how)
    finally:
        find(calls, keras.callbacks.CSVLogger).on_train_end()
    kept = keras.models.load_model(run.output / "checkpoint.keras")
    arrays = [keras.ops.convert_to_numpy(v) for v in (*kept.weights, *kept.optimizer.variables)]
    arrays += [keras.ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    return (run.output / "history.csv").read_bytes(), arrays


def start_anew(load):
    run, *_ = load()
    for name in (RESUME, "history.csv", "checkpoint.keras"):
        path = run.output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def assert_same(one, other):
    assert one[0] == other[0]
    assert len(one[1]) == len(other[1])
    for mine, theirs in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


RECIPES = {
    "averaged weights, dropout, batch norm": {
        "training.ema": 0.6,
        "training.schedule": {"name": "cosine", "warmup_steps": 2},
        "training.clipnorm": 1.0,
        "training.weight_decay": 0.01,
        "training.metrics": ["batch_dice", "soft_pixel_accuracy"],
        "model.dropout": 0.3,
        "model.normalization": "batch",
    },
    "rates that fall, early stop": {
        "training.schedule": {"name": "reduce", "factor": 0.5, "patience": 1},
        "training.learning_rate": 1e-6,  # so that the Dice stays what it is
        "training.early_stop": 2,
    },
    "the last epoch": {"training.keep": "last", "training.schedule": {"name": "onecycle"}, "seed": 7},
}


def test_a_training_stopped_after_an_epoch_and_in_the_next_ends_with_the_same_bits(load, save_always, capsys):
    settings = {"training.epochs": 2, "training.steps": 3, "training.ema": 0.6, "model.dropout": 0.3}
    whole = train(load, **settings)
    assert "goes on" not in capsys.readouterr().out
    start_anew(load)
    for after in (3, 1):
        with pytest.raises(Stopped):
            train(load, after=after, **settings)
    ended = train(load, **settings)
    said = "a training that was stopped goes on at epoch 2, step "
    assert capsys.readouterr().out == f"{said}0 of 3\n{said}2 of 3\n"
    assert_same(ended, whole)


def test_a_training_stopped_after_its_last_epoch_trains_no_more(load, save_always, capsys):
    settings = {"training.early_stop": 1, "training.epochs": 5, "training.learning_rate": 1e-9}
    whole = train(load, **settings)
    ended = train(load, **settings)
    assert capsys.readouterr().out == "a training that was stopped goes on at its end\n"
    assert_same(ended, whole)
    assert len(pd.read_csv(load()[0].output / "history.csv")) == 2


def test_the_scale_of_the_loss_goes_on_where_it_was(load, save_always):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        settings = {"training.steps": 3}
        run, sequence, validation = load(**settings)
        with pytest.raises(Stopped):
            train(load, after=1, **settings)
        model, optimizer = build_model(run), fit.make_optimizer(run)
        model.compile(optimizer, fit.make_loss(run), metrics=fit.make_metrics(run), jit_compile=False)
        optimizer.build(model.trainable_variables)  # as 03: the one that scales is not built yet
        calls = make_callbacks(run, sequence, validation)
        calls[-1].set_model(model)
        calls[-1].on_train_begin()
        assert int(model.optimizer.iterations) == int(model.optimizer.step_counter) == 2
        assert float(model.optimizer.dynamic_scale) == 2.0**15
    finally:
        keras.config.set_dtype_policy("float32")


def test_only_states_of_a_stopped_training_are_left_and_none_of_one_that_is_kept(load, save_always):
    with pytest.raises(Stopped):
        train(load, after=4, **{"training.epochs": 2, "training.steps": 3})
    run, *_ = load()
    folder = run.output / RESUME
    names = {"made_from.json", "000001-0000000.state", "000001-0000001.state"}
    assert {path.name for path in folder.iterdir()} - {
        p.with_suffix(".keras").name for p in folder.iterdir()
    } == names
    images = pd.read_csv(run.output / "images.csv")
    fit.keep_network(run, Split(images, images, images, images[:0], run.input), 4)
    assert not folder.exists()
    assert (run.output / "model.keras").is_file()


@pytest.fixture
def states(load):
    """A folder with two states of two variables, of 0 and of 1, and a checkpoint beside each."""
    run, *_ = load()
    (run.output / RESUME).mkdir()
    for n in (0, 1):
        with zipfile.ZipFile(run.output / "new", "w") as archive:
            archive.writestr("weights", f"of epoch {n}")
        (run.output / "new").replace(run.output / "checkpoint.keras")
        variables = [keras.Variable(np.full((3, 2), n, np.float32)), keras.Variable(n, dtype="int64")]
        digest = resume.hash_file(run.output / "checkpoint.keras")
        note = {"epoch": n, "step": 5, "checkpoint": digest, "history": f"epoch\r\n{n}\r\n", "callbacks": {}}
        write_state(run.output, note, variables)
    (run.output / RESUME / "made_from.json").write_text(json.dumps(stopped.describe_going_on(run)))
    return run.output


def damage(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


def test_a_state_holds_the_bytes_of_all_variables(states):
    newest, older = list_states(states / RESUME)
    with zipfile.ZipFile(newest) as archive:
        assert archive.read("0") == np.ones(6, np.float32).tobytes()
        assert archive.read("1") == np.int64(1).tobytes()
    assert (read_note(newest)["epoch"], read_note(older)["epoch"]) == (1, 0)


@pytest.mark.parametrize("suffix", [".state", ".keras"])
@pytest.mark.parametrize("tear", ["changed", "cut", "empty"])
def test_a_torn_file_is_told_and_the_older_state_used(states, capsys, suffix, tear):
    newest, older = list_states(states / RESUME)
    torn = newest.with_suffix(suffix)
    content = torn.read_bytes()
    at = content.index(b"of epoch 1" if suffix == ".keras" else np.ones(6, np.float32).tobytes())
    if tear == "changed":
        damage(torn, at + 2)
    else:
        torn.write_bytes(content[: 0 if tear == "empty" else len(content) // 2])
    assert find_state(states / RESUME) == older
    assert capsys.readouterr().out == f"WARNING: {newest} is torn: the one before it is used\n"
    assert not newest.exists()


def test_a_byte_changed_anywhere_is_noticed_or_changes_nothing_that_is_read(states, capsys):
    newest, older = list_states(states / RESUME)
    content, noticed = newest.read_bytes(), 0
    note = read_note(newest)
    for at in range(len(content)):
        newest.write_bytes(content)
        damage(newest, at)
        if find_state(states / RESUME) == older:
            noticed += 1
            continue
        with zipfile.ZipFile(newest) as archive:
            assert archive.read("0") == np.ones(6, np.float32).tobytes()
            assert archive.read("1") == np.int64(1).tobytes()
        assert read_note(newest) == note
    assert noticed > len(content) / 2


def test_a_lost_checkpoint_tears_its_state(states, capsys):
    newest, older = list_states(states / RESUME)
    newest.with_suffix(".keras").unlink()
    assert find_state(states / RESUME) == older


def test_a_state_that_was_not_written_to_its_end_is_none(states):
    newest, _ = list_states(states / RESUME)
    newest.rename(newest.with_name("000009-0000000.part.state"))
    assert [read_note(path)["epoch"] for path in list_states(states / RESUME)] == [0]


def test_a_training_whose_states_are_all_torn_begins_anew(states, load, capsys):
    for path in list_states(states / RESUME):
        path.write_bytes(b"")
    _, sequence, _ = load()
    take_up(load()[0], sequence)
    assert sequence.first == 0
    used, anew = capsys.readouterr().out.splitlines()
    assert used.endswith("1-0000005.state is torn: the one before it is used")
    assert anew.endswith("0-0000005.state is torn: the training begins anew")
    assert [path.name for path in (states / RESUME).iterdir()] == ["made_from.json"]
    assert not (states / "checkpoint.keras").exists()


def test_states_that_do_not_say_what_they_were_made_from_are_not_gone_on_with(states, load, capsys):
    (states / RESUME / "made_from.json").write_text("{")
    run, sequence, _ = load()
    take_up(run, sequence)
    assert sequence.first == 0
    said = f"WARNING: {states / RESUME}: made_from.json cannot be read: the training begins anew\n"
    assert capsys.readouterr().out == said


def test_a_disk_that_knows_no_links_gets_a_copy_of_the_checkpoint(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    (tmp_path / "checkpoint.keras").write_bytes(b"weights")
    resume.link(tmp_path / "checkpoint.keras", tmp_path / "000001-0000000.keras")
    (tmp_path / "checkpoint.keras").write_bytes(b"of a later epoch")
    assert (tmp_path / "000001-0000000.keras").read_bytes() == b"weights"


def test_files_are_put_back_as_they_were_at_the_state(states, load, capsys):
    refreshed = [states / "previews" / "epoch_001.png", states / "tensorboard" / "train" / "events"]
    for path in [*refreshed, states / "previews" / "epoch_002.png"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("strip")
        os.utime(path, (1, 1))
    (states / "checkpoint.keras").unlink()
    (states / "checkpoint.keras").write_bytes(b"of a later epoch")
    (states / "history.csv").write_text("later")
    put_back(states, list_states(states / RESUME)[0], read_note(list_states(states / RESUME)[0]))
    assert (states / "history.csv").read_bytes() == b"epoch\r\n1\r\n"
    with zipfile.ZipFile(states / "checkpoint.keras") as archive:
        assert archive.read("weights") == b"of epoch 1"
    assert all(path.stat().st_mtime > 1 for path in refreshed)  # or they would count for another run's
    assert not (states / "previews" / "epoch_002.png").exists()


def test_a_new_training_finds_nothing_of_an_older_one(load):
    run, sequence, _ = load()
    older = [run.output / name for name in ("trained.json", "history.csv", "checkpoint.part.keras")]
    older += [run.output / "previews" / "epoch_009.png", run.output / "tensorboard" / "events"]
    for path in older:
        path.parent.mkdir(exist_ok=True)
        path.write_text("older")
    take_up(run, sequence)
    assert [path for path in older if path.exists()] == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"training.steps": 7}, "training.steps 2 -> 7"),
        ({"seed": 3}, "seed 0 -> 3"),
        (
            {"training.schedule.name": "constant"},
            "training.schedule.name reduce -> constant; training.schedule.factor 0.5 -> null; "
            "training.schedule.patience 4 -> null",
        ),
    ],
)
def test_a_training_with_other_settings_does_not_go_on(states, load, settings, told):
    run, sequence, _ = load(**settings)
    before = sorted(states.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        take_up(run, sequence)
    assert str(caught.value) == (
        f"{states / RESUME}: a training that was stopped would go on otherwise: {told}. Bring that back, or "
        "throw the training away: add FRESH=1 to the command, or delete the folder"
    )
    assert sorted(states.rglob("*")) == before


def test_a_training_with_other_data_code_or_versions_does_not_go_on(states, load, monkeypatch):
    run, sequence, _ = load()

    def tell():
        with pytest.raises(ConfigError) as caught:
            take_up(run, sequence)
        return str(caught.value).partition("otherwise: ")[2].partition(". Bring")[0]

    labels = (states / "labels.csv").read_text()
    (states / "labels.csv").write_text(labels + "\n")
    assert tell() == "labels.csv changed"
    (states / "labels.csv").write_text(labels)
    notebook = files.ROOT / "notebooks" / "03_train.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["1 + 1"]}]}))
    assert tell() == "notebooks/03_train.ipynb changed"
    notebook.write_text("{}")
    monkeypatch.setattr(provenance, "version", lambda package: "2.0" if package == "keras" else "1.0")
    assert tell().startswith("keras ")
    monkeypatch.undo()


def test_what_changes_no_bit_lets_a_training_go_on(states, load, capsys):
    run, sequence, _ = load(**{"about": "words", "training.save_every": 3, "predict.objective": "dice"})
    take_up(run, sequence)
    assert capsys.readouterr().out == "a training that was stopped goes on at its end\n"


def test_a_diverged_training_is_not_gone_on_with(load, save_always):
    settings = {"training.learning_rate": 1e30, "training.steps": 4}
    with pytest.raises(TrainingError):
        train(load, **settings)
    assert not (load()[0].output / RESUME).exists()


def test_a_checkpoint_that_was_not_written_to_its_end_never_becomes_one(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    checkpoint = Checkpoint(tmp_path / "checkpoint.keras", save_best_only=True, monitor="dice", mode="max")
    checkpoint.set_model(model)
    checkpoint.part.write_bytes(b"half of an epoch")
    checkpoint.best = 0.9
    checkpoint.on_epoch_end(0, {"dice": 0.5})
    assert list(tmp_path.iterdir()) == []
    checkpoint.on_epoch_end(1, {"dice": 0.95})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.keras"]
    keras.models.load_model(tmp_path / "checkpoint.keras")


@pytest.fixture
def clock(monkeypatch, load):
    """Resume on a clock that only saving moves, by what it costs: (callback, clock, moments of the saves)."""
    run, sequence, _ = load(**{"training.save_every": 10, "training.steps": 100, "training.epochs": 3})
    clock, saves = SimpleNamespace(now=0.0, cost=0.5, error=None), []

    def write(folder, note, variables):
        saves.append((clock.now, note["epoch"], note["step"]))
        clock.now += clock.cost
        if clock.error:
            raise clock.error

    monkeypatch.setattr(resume, "write_state", write)
    monkeypatch.setattr(resume.time, "perf_counter", lambda: clock.now)
    call = resume.Resume(run, sequence)
    call.set_params({"epochs": 3})
    call.set_model(
        SimpleNamespace(
            stop_training=False, optimizer=SimpleNamespace(built=True, variables=[]), variables=[], metrics=[]
        )
    )
    call.on_train_begin()
    call.on_epoch_begin(0)
    return call, clock, saves


def test_states_are_saved_so_often_and_never_cost_more_than_their_share(clock):
    call, clock, saves = clock
    for step in range(60):
        clock.now += 1.0
        call.on_train_batch_end(step)
    # The first after 10 s; the next one when both are 2 % of the time.
    assert [(round(at), step) for at, _, step in saves] == [(10, 10), (50, 50)]
    clock.cost = 0.001
    call._cost = 0.001
    for step in range(60, 90):
        clock.now += 1.0
        call.on_train_batch_end(step)
    assert [step for *_, step in saves[2:]] == [61, 71, 81]
    call.on_epoch_end(0)
    assert saves[-1][1:] == (1, 0)
    call.model.stop_training = True
    call.on_epoch_end(1)
    assert saves[-1][1:] == (3, 0)


def test_no_state_is_saved_at_the_steps_that_are_passed_over(clock):
    call, clock, saves = clock
    call._begins = (0, 30)
    for step in range(40):
        clock.now += 1.0
        call.on_train_batch_end(step)
    assert [step for *_, step in saves] == [31]


def test_a_full_disk_is_told_once_and_the_training_goes_on(clock, capsys):
    call, clock, saves = clock
    clock.cost, clock.error = 0.0, OSError(28, "No space left on device")
    for step in range(30):
        clock.now += 1.0
        call.on_train_batch_end(step)
    assert len(saves) == 3
    said = "WARNING: from here on, a stop of the training loses what it has learned: [Errno 28] No space left"
    assert capsys.readouterr().out == f"{said} on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
def test_a_training_stopped_again_and_again_ends_with_the_same_bits(load, save_always, settings):
    settings = {"training.epochs": 4, "training.steps": 3, **settings}
    whole = train(load, **settings)
    start_anew(load)
    stops = 0
    while True:
        try:
            ended = train(load, after=2, is_lost=bool(stops % 2), **settings)
            break
        except Stopped:
            stops += 1
    assert_same(ended, whole)
    assert stops >= 4
    history = pd.read_csv(load()[0].output / "history.csv")
    assert len(history) == (3 if "training.early_stop" in settings else 4)
    assert len(set(history["learning_rate"])) > 1


KILLS = 25
# Runs the cells of a notebook; killed at a call into the writing of files where a number is given.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from zipfile import ZipFile
from defectmill import files
root, name, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files.ROOT = root
if name == "03_train":
    from defectmill.training import resume
    resume.SHARE = float("inf")

    def count(function):
        def counted(*args, **kwargs):
            global calls
            calls -= 1
            if calls == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return counted

    def tell(function):
        def told(*args, **kwargs):
            print("saves", flush=True)
            return function(*args, **kwargs)
        return told

    ZipFile.writestr, Path.replace = count(ZipFile.writestr), count(Path.replace)
    resume.flush, resume.link = count(resume.flush), count(resume.link)
    resume.Resume._save = tell(resume.Resume._save)
scope = {}
for cell in json.loads((root / "notebooks" / (name + ".ipynb")).read_text())["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), scope)
        if cell["metadata"].get("tags"):
            scope["experiment"] = "e"
"""


def start(root, name, calls=0):
    environment = {**os.environ, "MPLBACKEND": "Agg", "DEFECTMILL_UNATTENDED": "1"}
    environment["PYTHONPATH"] = str(Path(resume.__file__).parents[2])
    command = [sys.executable, "-c", CHILD, str(root), name, str(calls)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_to_its_end(root, name):
    with start(root, name) as child:
        said = child.communicate()[0]
    assert child.returncode == 0, said
    return said


def read_products(root):
    output = root / "output" / "e"
    model = keras.models.load_model(output / "model.keras")
    arrays = [keras.ops.convert_to_numpy(v) for v in (*model.weights, *model.optimizer.variables)]
    products = [output / "history.csv", output / "thresholds.json"]
    products += [output / "validation.csv", root / "submissions" / "e.csv"]
    return [path.read_bytes() for path in products], arrays


@pytest.mark.slow
def test_25_kills_at_random_moments_change_no_bit_of_model_thresholds_and_submission(root):
    notebooks = Path(resume.__file__).parents[3] / "notebooks"
    for name in ("02_labels", "03_train", "04_predict"):
        shutil.copy(notebooks / f"{name}.ipynb", root / "notebooks")
    write_fake_competition(root / "input" / "fake")
    recipe = "{epochs: 3, steps: 80, batch_size: 8, ema: 0.9, save_every: 0, schedule: {name: cosine}}"
    text = EXPERIMENT.replace("{epochs: 1, steps: 2, batch_size: 4}", recipe)
    text = text.replace("up_widths: [4]", "up_widths: [4], dropout: 0.2, normalization: batch")
    (root / "notebooks" / "experiments" / "e.yml").write_text(text)
    for name in ("02_labels", "03_train", "04_predict"):
        run_to_its_end(root, name)
    whole = read_products(root)
    for name in ("model.keras", "trained.json", "history.csv", "thresholds.json", "validation.csv"):
        (root / "output" / "e" / name).unlink()
    (root / "submissions" / "e.csv").unlink()
    random, in_the_save, gone_on = np.random.default_rng(0), 0, set()
    for kill in range(KILLS):
        by_call, said = int(random.integers(1, 400)) * (kill % 2), []
        with start(root, "03_train", by_call) as child:
            for line in child.stdout:
                said.append(line)
                if line == "saves\n" and not by_call and child.poll() is None:
                    time.sleep(random.uniform(0, 1))
                    child.kill()
        assert child.returncode == -signal.SIGKILL, "".join(said)
        gone_on |= {line for line in said if line.startswith("a training that was stopped goes on")}
        in_the_save += any((root / "output" / "e" / RESUME).glob("*.part.*"))
    assert len(gone_on) > KILLS / 3
    assert in_the_save > KILLS / 5
    run_to_its_end(root, "03_train")
    run_to_its_end(root, "04_predict")
    ended = read_products(root)
    assert ended[0] == whole[0]
    for mine, theirs in zip(ended[1], whole[1], strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)
    assert not (root / "output" / "e" / RESUME).exists()
