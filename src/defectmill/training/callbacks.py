"""Callbacks: checkpoint, history, early stop, learning rate, previews and progress of a training."""

import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

import keras
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from defectmill import files
from defectmill.config import Experiment
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError
from defectmill.images import overlay, read_image, resize_image, write_image
from defectmill.labels import draw_runs
from defectmill.models import find_broken_weight
from defectmill.prediction.inference import predict_probs
from defectmill.prediction.postprocess import keep_likeliest
from defectmill.products.history import set_aside
from defectmill.products.stopped import RESUME
from defectmill.settings import CosineSchedule, OneCycleSchedule, ReduceSchedule
from defectmill.training.fit import MONITOR
from defectmill.training.resume import Checkpoint, take_up
from defectmill.training.sequences import DefectSequence, Pictures, ValidationSequence

Arrays = Sequence[np.ndarray]
SHARE = 0.05  # of an epoch's time that previews may take, on average
WIDTH, GAP, TITLE = 240, 6, 18  # pixels of a strip
PRINTED = ("loss", "val_loss", "foreground_dice", MONITOR)  # first in the line of an epoch
BAR = "{desc}, {remaining} left {bar}"
DELAY = 0.5  # seconds before an epoch's steps show: the line of the epoch before comes through the kernel


def make_callbacks(run: Experiment, train: DefectSequence, validation: ValidationSequence | None) -> list:
    """Make the callbacks of a training, and set aside what an earlier one left, unless this goes on with it.

    Under the network's folder they write history.csv and checkpoint.keras, the model of the epoch to keep,
    the last one without validation; the caller renames it when training is over.
    """
    training, folder = run.training, run.training_folder
    folder.mkdir(parents=True, exist_ok=True)
    set_aside(run)
    resume = take_up(run, train)
    history = keras.callbacks.CSVLogger(folder / "history.csv", append=True)  # what `resume` left of it
    best = {"monitor": MONITOR, "mode": "max"}
    # The averaged weights come first: the checkpoint must save those that were measured.
    callbacks = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if training.ema else []
    callbacks += [
        FiniteGuard(run, train, history),
        LearningRateLog(),
        Checkpoint(
            folder / "checkpoint.keras", save_best_only=bool(validation) and training.keep == "best", **best
        ),
        history,
    ]
    if validation and training.keep == "best":
        callbacks.append(keras.callbacks.EarlyStopping(patience=training.early_stop, **best))
    match training.schedule:
        case CosineSchedule(warmup_steps=warmup_steps):
            callbacks.append(CosineDecay(training.learning_rate, warmup_steps, len(train)))
        case OneCycleSchedule() as schedule:
            callbacks.append(OneCycle(training.learning_rate, schedule, len(train)))
        case ReduceSchedule(factor=factor, patience=patience):
            callbacks.append(keras.callbacks.ReduceLROnPlateau(factor=factor, patience=patience, **best))
    if training.tensorboard:
        if not find_spec("tensorboard"):
            way_out = "install it into this environment, or set false"
            raise TrainingError(f"setting 'training.tensorboard': no package tensorboard; {way_out}")
        callbacks.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    if files.is_unattended():
        callbacks.append(TerminalProgress())  # clears its moving line before the previews print
    if training.previews and validation:
        callbacks.append(Previews(run, validation.pictures))
    return [*callbacks, resume.beside(callbacks)]


class TrainingError(DefectmillError):
    """A training that cannot go on."""


class FiniteGuard(keras.callbacks.Callback):
    """Stops a training whose loss or weights are nan or inf, before a checkpoint can keep them.

    TrainingError names the epoch, the step, the loss, the learning rate, and what likely caused it. The loss
    is read after every step, the weights after every epoch. `history` is closed before.
    """

    def __init__(self, run: Experiment, train: DefectSequence, history: keras.callbacks.CSVLogger):
        super().__init__()
        self.run, self.train, self.history = run, train, history
        self._epoch = self._step = 0

    def on_train_begin(self, logs=None):
        if broken := find_broken_weight(self.model):
            read = "model.weights, or the network that this one goes on from, is a broken file"
            raise TrainingError(f"weights are nan or inf before the first step, first {broken}: {read}")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._step = batch
        if not math.isfinite(logs["loss"]):
            self._stop(f"the loss is {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        if broken := find_broken_weight(self.model):
            self._stop(f"the loss was {logs['loss']:.4g}, and then weights are nan or inf, first {broken}")
        if not math.isfinite(logs.get("val_loss", 0)):
            self._stop(f"the loss of the validation images is {logs['val_loss']}")

    def _stop(self, what: str) -> None:
        self.history.on_train_end()
        shutil.rmtree(self.run.training_folder / RESUME, ignore_errors=True)  # it would come here once more
        rate, causes = float(self.model.optimizer.learning_rate), "; ".join(self._list_causes())
        where = f"epoch {self._epoch + 1}, step {self._step + 1} of {self.train.steps_per_epoch}"
        raise TrainingError(f"{where}: {what}, at a learning rate of {rate:.3g}. Likely causes: {causes}")

    def _list_causes(self) -> list[str]:
        """List what may have caused it, what is known of the step first."""
        training, step = self.run.training, self._epoch * self.train.steps_per_epoch + self._step
        images, masks = self.train[step - self.train.first]
        causes, policy = [], keras.config.dtype_policy().name
        if not np.isfinite(images).all():
            causes.append("pixels of this batch are nan or inf: look for a broken image")
        if not np.isin(masks, (0, 1)).all():
            causes.append(f"labels of this batch are not 0 or 1, but {masks.min():.3g} to {masks.max():.3g}")
        if policy != "float32":
            causes.append(f"Keras computes in {policy}: set its precision to float32")
        if step:  # at the first one no rate has counted yet
            lower = f"training.learning_rate={training.learning_rate / 10:.2g}"
            causes.append(f"the rate is too high: set {lower}, or what make rates suggests")
            if not (training.clipnorm or training.clipvalue):
                causes.append("gradients are not clipped: set training.clipnorm=1")
        terms = ", ".join(name for name, weight in training.loss.items() if weight)
        return [*causes, f"a term of training.loss ({terms}): try others"]


class LearningRateLog(keras.callbacks.Callback):
    """Adds the rate of an epoch's last step to its logs, for the callbacks that come later."""

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class CosineDecay(keras.callbacks.Callback):
    """Linear warm-up from a hundredth of the rate, then half a cosine to 0, step by step.

    Loshchilov & Hutter 2016, arXiv:1608.03983. A callback because Keras traces a schedule object once for
    every weight that decays: half a minute before the first step, and slower ones after.
    """

    def __init__(self, rate: float, warmup_steps: int, total_steps: int):
        super().__init__()
        self.rate, self.warmup_steps, self.total_steps = rate, warmup_steps, total_steps

    def at(self, step: int) -> float:
        """Rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.rate * (0.01 + 0.99 * step / self.warmup_steps)
        rest = max(1, self.total_steps - self.warmup_steps)
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / rest))

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.at(int(self.model.optimizer.iterations))


class OneCycle(CosineDecay):
    """Half a cosine from the schedule's `start` up to the rate, then half a cosine down to its `end`.

    Smith & Topin 2018, arXiv:1708.07120, who climb and fall in straight lines, and lower the momentum where
    the rate is high; here it stays.
    """

    def __init__(self, rate: float, schedule: OneCycleSchedule, total_steps: int):
        super().__init__(rate, round(schedule.warmup_share * total_steps), total_steps)
        self.start, self.end = schedule.start, schedule.end

    def at(self, step: int) -> float:
        if step < self.warmup_steps:
            low, share = self.start, step / self.warmup_steps
        else:
            rest = max(1, self.total_steps - self.warmup_steps)
            low, share = self.end, 1 - (step - self.warmup_steps) / rest
        return self.rate * (low + (1 - low) * 0.5 * (1 - math.cos(math.pi * share)))


class TerminalProgress(keras.callbacks.Callback):
    """Prints a line an epoch, and shows the steps on one moving line of the terminal.

    make gives the terminal's name in DEFECTMILL_TERMINAL. It is written to directly: what went through
    stdout would stay in the executed notebook. Without a terminal there is no moving line.
    """

    def on_epoch_begin(self, epoch, logs=None):
        steps, epochs, self._started = self.params["steps"], self.params["epochs"], time.perf_counter()
        self._epoch, self._terminal = f"epoch {epoch + 1}/{epochs}", None
        with suppress(OSError):
            terminal = os.open(os.environ.get("DEFECTMILL_TERMINAL", ""), os.O_WRONLY | os.O_NOCTTY)
            self._terminal = os.fdopen(terminal, "w")
        where = {"file": self._terminal, "disable": self._terminal is None, "delay": DELAY, "leave": False}
        done, total = epoch * steps, epochs * steps
        self._line = tqdm(initial=done, total=total, bar_format=BAR, dynamic_ncols=True, **where)

    def on_train_batch_end(self, batch, logs=None):
        numbers = f"loss {logs['loss']:.4g}, foreground Dice {logs['foreground_dice']:.4g}"
        step = f"{self._epoch}, step {batch + 1}/{self.params['steps']}: {numbers}"
        self._line.set_description_str(step, refresh=False)
        self._line.update()

    def on_epoch_end(self, epoch, logs=None):
        self._line.close()
        if self._terminal:
            self._terminal.close()
        names = [name for name in dict.fromkeys((*PRINTED, *logs)) if name in logs]
        numbers = ", ".join(f"{name} {logs[name]:.4g}" for name in names)
        print(f"{self._epoch}: {time.perf_counter() - self._started:.0f} s, {numbers}", flush=True)


class Previews(keras.callbacks.Callback):
    """Draws a strip after an epoch, and all strips as one film at the end.

    Writes previews/epoch_001.png... and previews.gif under the experiment's output. Where the strips would
    take more than `share` of the training time, it draws fewer, and says so.
    """

    def __init__(self, run: Experiment, pictures: Pictures, share: float = SHARE):
        super().__init__()
        self.run, self.share, self.folder = run, share, run.training_folder / "previews"
        ids = choose_pictures(pictures.runs, run.training.previews)
        self.images = [read_image(pictures.folder / i, run.data.channels) for i in ids]
        shapes, n_classes = pictures.shapes, run.info.n_classes
        self.truths = [draw_runs(pictures.runs[i], shapes[i], n_classes) for i in ids]
        self._next, self._cost, self._began = 0, math.inf, 0.0

    def on_train_begin(self, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self._next:
            return
        started = time.perf_counter()
        masks = [self._predict(image) for image in self.images]
        strip = draw_strip(self.images, self.truths, masks, self.run.info, f"epoch {epoch + 1}")
        write_image(self.folder / f"epoch_{epoch + 1:03}.png", strip)
        self._cost = min(self._cost, time.perf_counter() - started)
        duration = started - self._began
        every = max(1, math.ceil(self._cost / (self.share * duration)))
        self._next = epoch + every
        if every > 1:
            print(f"previews take {self._cost:.1f} s of {duration:.0f} s: the next one after {every} epochs")

    def on_train_end(self, logs=None):
        paths = sorted(self.folder.glob("epoch_*.png"))
        if paths:
            first, *rest = [Image.fromarray(read_image(path, 3)) for path in paths]
            with files.write_atomically(self.folder.with_suffix(".gif")) as part:
                first.save(part, save_all=True, append_images=rest, duration=500, loop=0)

    def _predict(self, image: np.ndarray) -> np.ndarray:
        probs = predict_probs(self.model, image, self.run)
        probs = keep_likeliest(probs) if self.run.info.exclusive else probs
        return (probs > 0.5).astype(np.uint8)


def choose_pictures(runs: dict[str, dict[int, str]], n: int) -> list[str]:
    """Choose n image ids, the classes in turn, then any."""
    classes = sorted({class_id for present in runs.values() for class_id in present})
    with_class = [[i for i in runs if class_id in runs[i]] for class_id in classes]
    turns = [ids[place] for place in range(n) for ids in with_class if place < len(ids)]
    return list(dict.fromkeys([*turns, *runs]))[:n]


def draw_strip(
    images: Arrays, truths: Arrays, predictions: Arrays, info: DatasetInfo, title: str
) -> np.ndarray:
    """Draw truth and the names of the classes above, prediction below, a column an image: (H, W, 3) uint8."""
    heights = [round(WIDTH * image.shape[0] / image.shape[1]) for image in images]
    row = TITLE + max(heights) + GAP
    canvas = Image.new("RGB", (len(images) * (WIDTH + GAP) - GAP, 2 * row - GAP), "white")
    pen, left = ImageDraw.Draw(canvas), 48
    for kind in info.classes:
        pen.rectangle((left, 4, left + 9, 13), fill=kind.colour)
        pen.text((left + 14, 2), kind.name, fill="black")
        left += 28 + round(pen.textlength(kind.name))
    for top, name, masks in ((0, "truth", truths), (row, f"prediction, {title}", predictions)):
        pen.text((2, top + 2), name, fill="black")
        for column, (image, mask, height) in enumerate(zip(images, masks, heights, strict=True)):
            cell = resize_image(overlay(image, mask, info.colours), (height, WIDTH))
            canvas.paste(Image.fromarray(cell), (column * (WIDTH + GAP), top + TITLE))
    return np.asarray(canvas)
