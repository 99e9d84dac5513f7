"""Exact resume: the state of a training, saved while it runs, and taken up by the next one.

Beside the network, resume/ holds made_from.json, what is trained from what, and the last two states:
<epoch>-<step>.state, a zip file of the bytes of all variables and of note.json, and .keras, the model of the
epoch that is kept so far. Epochs and steps count from 0. `fit.keep_network` deletes the folder.
"""

import json
import os
import shutil
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from defectmill import files
from defectmill.config import Experiment
from defectmill.files import DefectmillError
from defectmill.products.inputs import hash_file
from defectmill.products.stopped import (
    MADE_FROM,
    RESUME,
    STATES,
    describe_going_on,
    find_stopped,
    refuse_changed,
)
from defectmill.training.sequences import DefectSequence

SHARE = 0.02  # of the time of a training that saving may take
GENERATIONS = 2
# What changes in a callback while it runs, by its class; all else follows from the settings or the step.
KEPT = {
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "Checkpoint": ("best", "digest"),
    "EarlyStopping": ("best", "best_epoch", "wait"),
    "ReduceLROnPlateau": ("best", "cooldown_counter", "wait"),
    "Previews": ("_next", "_cost"),
}


class Checkpoint(keras.callbacks.ModelCheckpoint):
    """ModelCheckpoint whose file is whole or not there at all, so that states may link to it.

    `digest`: SHA-256 of the file, "" before there is one.
    """

    def __init__(self, path: Path, **kwargs):
        super().__init__(path.with_name(f"{path.stem}.part.keras"), **kwargs)
        self.path, self.part, self.digest = path, Path(self.filepath), ""

    def on_epoch_end(self, epoch, logs=None):
        self.part.unlink(missing_ok=True)
        super().on_epoch_end(epoch, logs)
        if self.part.exists():
            flush(self.part)
            self.digest = hash_file(self.part)
            self.part.replace(self.path)


class Resume(keras.callbacks.Callback):
    """Saves the state of a training, and begins with one. It must be the last callback.

    It saves after an epoch, and after a step where the last time is `every` seconds ago; never where saving
    would take more than `SHARE` of the time so far.

    Args:
        state: to begin with; the Sequence already does.
    Attributes:
        spent: seconds that saving took.
    """

    def __init__(self, run: Experiment, train: DefectSequence, state: Path | None = None):
        super().__init__()
        self.folder, self.every = run.training_folder, run.training.save_every
        self.train, self.state, self.others = train, state, list[keras.callbacks.Callback]()
        self._begins = divmod(train.first, train.steps_per_epoch)
        self._epoch, self.spent, self._cost, self._told = 0, 0.0, 0.0, False

    def beside(self, others: Sequence[keras.callbacks.Callback]) -> "Resume":
        """Look after the state of the other callbacks."""
        self.others = list(others)
        return self

    def on_train_begin(self, logs=None):
        self._began = self._saved = time.perf_counter()
        if not self.state:
            return
        classes = self.train.pictures.n_classes, self.model.output_shape[-1]
        truth, probabilities = (keras.ops.zeros((1, 1, 1, n)) for n in classes)
        self.model.compute_metrics(None, truth, probabilities)  # makes their variables
        note = read_note(self.state)
        with zipfile.ZipFile(self.state) as archive:
            self._values = [archive.read(str(n)) for n in range(note["variables"])]
        self._set_variables()
        for call in self.others:
            for name, value in note["callbacks"].get(type(call).__name__, {}).items():
                setattr(call, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self.state and epoch == self._begins[0]:
            if self._begins[1]:
                self._set_variables()  # Keras has reset the metrics
                self._pass_over(self._begins[1])
            del self._values

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1  # after the last one the epoch's end follows
        is_new = self._begins < (self._epoch, step) < (self._epoch, self.train.steps_per_epoch)
        if is_new and time.perf_counter() - self._saved >= self.every:
            self._save(self._epoch, step)

    def on_epoch_end(self, epoch, logs=None):
        self._save(self.params["epochs"] if self.model.stop_training else epoch + 1, 0)

    def _list_variables(self) -> list:
        """Weights, seeds of dropout, all that the optimizer keeps, and the metrics so far."""
        if not self.model.optimizer.built:  # one that scales the loss
            self.model.optimizer.build(self.model.trainable_variables)
        metrics = [variable for metric in self.model.metrics for variable in metric.variables]
        return [*self.model.variables, *self.model.optimizer.variables, *metrics]

    def _set_variables(self) -> None:
        for variable, value in zip(self._list_variables(), self._values, strict=True):
            now = keras.ops.convert_to_numpy(variable)
            variable.assign(np.frombuffer(value, now.dtype).reshape(now.shape))

    def _pass_over(self, steps: int) -> None:
        """Let the first steps of an epoch take no batch and teach nothing: they are done."""
        train, left = self.model.train_function, iter(range(steps - 1, -1, -1))

        def pass_over(_batches):
            if not next(left):
                self.model.train_function = train
            return self.model.get_metrics_result()

        self.model.train_function = pass_over

    def _save(self, epoch: int, step: int) -> None:
        started = time.perf_counter()
        if self.spent + self._cost > SHARE * (started - self._began):
            return
        states = {type(call).__name__: call for call in self.others}
        history = self.folder / "history.csv"
        note = {
            "epoch": epoch,
            "step": step,
            "checkpoint": getattr(states.get("Checkpoint"), "digest", ""),
            "history": history.read_bytes().decode() if history.is_file() else "",
            "callbacks": {
                name: {key: getattr(states[name], key) for key in keys}
                for name, keys in KEPT.items()
                if name in states
            },
        }
        try:
            write_state(self.folder, note, self._list_variables())
        except (OSError, DefectmillError) as error:
            if not self._told:
                print(f"WARNING: from here on, a stop of the training loses what it has learned: {error}")
            self._told = True
        self._saved = time.perf_counter()
        self._cost = self._saved - started
        self.spent += self._cost


def take_up(run: Experiment, train: DefectSequence) -> Resume:
    """Begin a training, or go on with the one that was stopped: the callback that does it.

    Files are put back as they were at its last whole state, and the Sequence begins there; a new training
    finds none of an older one. Where no GPU computes, all operations are deterministic from now on.

    Raises:
        ConfigError: see `refuse_changed`.
    """
    if not tf.config.list_physical_devices("GPU"):  # there, some have no deterministic way and would stop
        keras.utils.set_random_seed(run.seed)  # else TensorFlow refuses to be deterministic
        tf.config.experimental.enable_op_determinism()
    refuse_changed(run)
    folder = run.training_folder
    is_known = bool(find_stopped(run))
    if list_states(folder / RESUME) and not is_known:
        print(f"WARNING: {folder / RESUME}: {MADE_FROM} cannot be read: the training begins anew")
    state = find_state(folder / RESUME) if is_known else None
    for name in ("checkpoint.keras", "checkpoint.part.keras", "trained.json", "history.csv"):
        (folder / name).unlink(missing_ok=True)
    if not state:
        for name in (RESUME, "previews", "tensorboard"):
            shutil.rmtree(folder / name, ignore_errors=True)
        made_from = folder / RESUME / MADE_FROM
        with files.write_atomically(made_from) as part:
            part.write_text(json.dumps(describe_going_on(run)) + "\n")
            flush(part)
        return Resume(run, train)
    note = read_note(state)
    epoch, step, steps = note["epoch"], note["step"], train.steps_per_epoch
    put_back(folder, state, note)
    train.first = epoch * steps + step
    where = f"epoch {epoch + 1}, step {step} of {steps}" if epoch < train.epochs else "its end"
    print(f"a training that was stopped goes on at {where}")
    return Resume(run, train, state)


def write_state(folder: Path, note: dict[str, Any], variables: Sequence) -> None:
    """Write a state of the network in `folder`, and delete all but the last `GENERATIONS`.

    note: its epoch and step, and the SHA-256 of its checkpoint, "" where it has none yet, among others.
    """
    path = folder / RESUME / f"{note['epoch']:06}-{note['step']:07}.state"
    checkpoint = folder / "checkpoint.keras"
    note = {**note, "variables": len(variables)}
    if note["checkpoint"]:
        with files.write_atomically(path.with_suffix(".keras")) as part:
            link(checkpoint, part)
    with files.write_atomically(path) as part:
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr("note.json", json.dumps(note))
            for n, variable in enumerate(variables):
                archive.writestr(str(n), keras.ops.convert_to_numpy(variable).tobytes())
        flush(part)
    flush(path.parent)
    for old in list_states(path.parent)[GENERATIONS:]:
        old.unlink()
        old.with_suffix(".keras").unlink(missing_ok=True)


def list_states(folder: Path) -> list[Path]:
    """The states in a folder, the last one first; one that was not written to its end has another name."""
    return sorted(folder.glob(STATES), reverse=True)


def find_state(folder: Path) -> Path | None:
    """Find the last state that is whole; others are told, and deleted."""
    states = list_states(folder)
    for n, path in enumerate(states, 1):
        if is_whole(path):
            return path
        what = "the one before it is used" if states[n:] else "the training begins anew"
        print(f"WARNING: {path} is torn: {what}")
        path.unlink()
    return None


def is_whole(path: Path) -> bool:
    """Whether a state and its checkpoint are what was written, by their checksums."""
    try:
        note, kept = read_note(path), path.with_suffix(".keras")
        with zipfile.ZipFile(path) as archive:
            has_all = {*archive.namelist()} == {"note.json", *map(str, range(note["variables"]))}
            is_same = has_all and archive.testzip() is None
        return is_same and (not note["checkpoint"] or hash_file(kept) == note["checkpoint"])
    except Exception:  # changed bytes may ask zipfile for anything
        return False


def read_note(path: Path) -> dict[str, Any]:
    """Read where a state stands: its epoch and step, the history, the callbacks."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("note.json"))


def put_back(folder: Path, state: Path, note: dict[str, Any]) -> None:
    """Let a network's folder be as it was at a state; all files get a new time, as if they were made now."""
    (folder / "history.csv").write_bytes(note["history"].encode())
    if note["checkpoint"]:
        shutil.copyfile(state.with_suffix(".keras"), folder / "checkpoint.keras")
    for strip in folder.glob("previews/epoch_*.png"):
        if int(strip.stem.removeprefix("epoch_")) > note["epoch"]:
            strip.unlink()
        else:
            strip.touch()
    for log in folder.glob("tensorboard/**/*"):
        log.touch()


def link(source: Path, target: Path) -> None:
    """Give a file that is never written to a second name; a copy where the disk knows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush(target)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
