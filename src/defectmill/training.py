"""Training: compile, callbacks, fit."""

import math
import os
from pathlib import Path

import keras

from defectmill.config import Experiment
from defectmill.held_out import HeldOutSequence
from defectmill.losses import DefectLoss, ForegroundDice, flat_dice, soft_pixel_accuracy
from defectmill.models.encoder_unet import PARTS
from defectmill.previews import Previews
from defectmill.sequence import DefectSequence

MEASURE = "val_foreground_dice"
METRICS = {"flat_dice": flat_dice, "soft_pixel_accuracy": soft_pixel_accuracy}


@keras.saving.register_keras_serializable(package="defectmill")
class Adam(keras.optimizers.Adam):
    """Adam; pretrained weights move at a share of the rate of fresh ones.

    Kingma & Ba 2014, arXiv:1412.6980; with weight decay it is AdamW, Loshchilov & Hutter 2017,
    arXiv:1711.05101.
    """

    def __init__(self, *args, encoder_rate: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder_rate = encoder_rate

    def build(self, variables):
        super().build(variables)
        self._slow = {n for n, v in enumerate(variables) if v.path.startswith(PARTS)}

    def update_step(self, gradient, variable, learning_rate):
        if self._get_variable_index(variable) in self._slow:
            learning_rate = learning_rate * self.encoder_rate
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "encoder_rate": self.encoder_rate}


class CosineRate(keras.callbacks.Callback):
    """Linear warm-up from a hundredth of the rate, then half a cosine to 0, step by step.

    Loshchilov & Hutter 2016, arXiv:1608.03983. A callback because Keras traces a schedule object
    once for every weight that decays: half a minute before the first step, and slower ones after.
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


def compile_model(model: keras.Model, experiment: Experiment) -> None:
    """Compile with the experiment's loss and optimizer, and the foreground measure."""
    knobs = experiment.training
    optimizer = Adam(
        knobs.learning_rate,
        encoder_rate=knobs.encoder_rate,
        weight_decay=knobs.weight_decay or None,
        clipvalue=knobs.clipvalue or None,
        global_clipnorm=knobs.clipnorm or None,
        use_ema=bool(knobs.ema),
        ema_momentum=knobs.ema or 0.99,
    )
    head = experiment.model.head
    model.compile(
        optimizer,
        DefectLoss(head, knobs.loss),
        metrics=[
            ForegroundDice(len(experiment.card.classes), head),
            *(METRICS[name] for name in knobs.metrics),
        ],
        jit_compile=False,  # slower on a CPU, and compiles anew for every size of picture
    )
    optimizer.build(model.trainable_variables)  # or TensorFlow traces the first step twice


def make_callbacks(
    experiment: Experiment, checkpoint: Path, history: Path, total_steps: int
) -> list:
    """Checkpoint, early stop and rate reducer by the foreground Dice of the held-out fold."""
    knobs = experiment.training
    best = {"monitor": MEASURE, "mode": "max"}
    callbacks: list[keras.callbacks.Callback] = []
    if knobs.ema:
        # Before the checkpoint: it must save the averaged weights that were measured.
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    callbacks += [
        keras.callbacks.ModelCheckpoint(checkpoint, save_best_only=knobs.keep == "best", **best),
        keras.callbacks.CSVLogger(history),
        keras.callbacks.EarlyStopping(patience=knobs.early_stop, **best),
    ]
    if knobs.schedule == "cosine":
        callbacks.append(CosineRate(knobs.learning_rate, knobs.warmup_steps, total_steps))
    elif knobs.schedule == "reduce":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=knobs.reducer_factor, patience=knobs.reducer_patience, **best
            )
        )
    return callbacks


def fit(
    model: keras.Model, train: DefectSequence, held_out: HeldOutSequence, experiment: Experiment
) -> None:
    """Train.

    Writes under the experiment's output folder history.csv and checkpoint.keras, the best model
    of all epochs by the foreground measure; the caller renames it when training is over. Prints
    one line an epoch under make, a bar when live.
    """
    folder = experiment.output
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.keras"
    checkpoint.unlink(missing_ok=True)
    compile_model(model, experiment)
    callbacks = make_callbacks(experiment, checkpoint, folder / "history.csv", len(train))
    if experiment.training.previews:
        callbacks.append(Previews(experiment, held_out.pictures))
    model.fit(
        train,
        validation_data=held_out,
        epochs=train.epochs,
        steps_per_epoch=train.steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,  # the Sequence has its own order
        verbose=2 if os.environ.get("DEFECTMILL_BATCH") else "auto",
    )
