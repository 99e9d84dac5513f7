"""What Keras' `compile` and `fit` need: optimizer, loss, metrics."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
from keras import ops
from scipy.ndimage import gaussian_filter1d

from defectmill import files
from defectmill.config import Experiment
from defectmill.files import DefectmillError
from defectmill.models import build_model, describe_shown, refuse_broken_weights
from defectmill.models.encoder_unet import PARTS
from defectmill.models.losses import DefectLoss, ForegroundDice, batch_dice, soft_pixel_accuracy
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import TRAINED
from defectmill.products.provenance import describe_training, hash_training, judge_training
from defectmill.products.stopped import RESUME
from defectmill.settings import EncoderUnetSettings
from defectmill.split import Split, load_split
from defectmill.training.sequences import make_sequences

MONITOR = "val_foreground_dice"  # what decides between epochs
METRICS = {"batch_dice": batch_dice, "soft_pixel_accuracy": soft_pixel_accuracy}
RATES, SWEEP = (1e-6, 1.0), 100  # of the learning-rate finder: first and last rate, steps
SMOOTHING, WORSE = 3, 4  # standard deviation in steps; it stops at so many times the best smoothed loss


@keras.saving.register_keras_serializable(package="defectmill")
class Adam(keras.optimizers.Adam):
    """Adam with a lower learning rate for the pretrained encoder, and an average that soon leaves the start.

    Kingma & Ba 2014, arXiv:1412.6980; with weight decay it is AdamW, Loshchilov & Hutter 2017,
    arXiv:1711.05101. The decay goes by the full rate everywhere.

    Args:
        encoder_rate: learning rate of the encoder's last part, in shares of the rate.
        rate_decay: that of every other part, in shares of the next deeper one's (discriminative fine-tuning,
            Howard & Ruder 2018, arXiv:1801.06146).
        thaw_step: steps in which the encoder's weights stay as they are; its batch normalisation goes on to
            gather statistics, and Adam its moments.
        ema_momentum: of averaged weights, at most; at the n-th step, from 0, it is n / (9 + n) as with
            TensorFlow's ExponentialMovingAverage, or the first weights would long outweigh all others.
    """

    def __init__(
        self, *args, encoder_rate: float = 1.0, rate_decay: float = 1.0, thaw_step: int = 0, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.encoder_rate, self.rate_decay, self.thaw_step = encoder_rate, rate_decay, thaw_step

    def build(self, variables):
        super().build(variables)
        self._shares = [self._share(v.path) for v in variables]  # of the learning rate; None: no encoder

    def _share(self, path: str) -> float | None:
        above = [part for part, name in enumerate(reversed(PARTS)) if path.startswith(name)]
        return self.encoder_rate * self.rate_decay ** above[0] if above else None

    def update_step(self, gradient, variable, learning_rate):
        share = self._shares[self._get_variable_index(variable)]
        if share is not None:
            learning_rate = learning_rate * share
            if self.thaw_step:
                learning_rate = learning_rate * ops.cast(self.iterations >= self.thaw_step, "float32")
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        if not (self.thaw_step and self.weight_decay):
            return super()._apply_weight_decay(variables)
        decay = super()._apply_weight_decay
        others = [v for v in variables if self._shares[self._get_variable_index(v)] is None]
        return ops.cond(self.iterations < self.thaw_step, lambda: decay(others), lambda: decay(variables))

    def _update_model_variables_moving_average(self, trainable_variables):
        n = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, n / (9 + n))
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)

    def get_config(self):
        own = {name: getattr(self, name) for name in ("encoder_rate", "rate_decay", "thaw_step")}
        return {**super().get_config(), **own}


def make_optimizer(run: Experiment) -> Adam:
    """Make the experiment's optimizer."""
    training, model, encoder = run.training, run.model, {}
    if isinstance(model, EncoderUnetSettings):
        encoder = model.model_dump(include={"encoder_rate", "rate_decay", "thaw_step"})
    return Adam(
        training.learning_rate,
        **encoder,
        weight_decay=training.weight_decay or None,
        clipvalue=training.clipvalue or None,
        global_clipnorm=training.clipnorm or None,
        use_ema=bool(training.ema),
        ema_momentum=training.ema or 0.99,
    )


def make_loss(run: Experiment) -> DefectLoss:
    """Make the experiment's loss."""
    return DefectLoss(run.model.head, run.training.loss)


def make_metrics(run: Experiment) -> list:
    """Make the metrics: the Dice of the defect classes, and those that the experiment asks for."""
    foreground = ForegroundDice(run.info.n_classes, run.model.head)
    return [foreground, *(METRICS[name] for name in run.training.metrics)]


def compile_model(model: keras.Model, run: Experiment) -> None:
    """Compile a model as the experiment says."""
    # Compiled by XLA it would be slower on a CPU, and compiled anew for every size of image.
    model.compile(make_optimizer(run), make_loss(run), metrics=make_metrics(run), jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # or TensorFlow traces the first step twice


def warm_start(run: Experiment, model: keras.Model) -> None:
    """Let a last fit go on from the weights of the first fold's network, where the experiment says so."""
    if run.network == "last" and run.training.warm_start:
        path = run.network_folder(run.fold_networks[0]) / "model.keras"
        model.load_weights(run.require(path, "train"))
        refuse_broken_weights(model, path)


def keep_network(run: Experiment, split: Split, steps: int) -> None:
    """Give a trained network its name, model.keras, beside trained.json: what it is and learned from.

    Where this process ends between the two files, `make train` finds the network by the hash in the first.

    Args:
        steps: how many it has trained.
    """
    folder = run.training_folder
    note = {
        "network": run.network or run.networks[0],
        "images": len(split.train),
        "validation": len(split.validation),
        "steps": steps,
        "shown": describe_shown(run),
        "made_from": hash_training(run),
        "from": describe_training(run),
        "sha256": hash_file(folder / "checkpoint.keras"),
    }
    with files.write_atomically(folder / TRAINED) as part:
        part.write_text(json.dumps(note) + "\n")
    (folder / "checkpoint.keras").replace(folder / "model.keras")
    shutil.rmtree(folder / RESUME, ignore_errors=True)


def warn_of_few_steps(run: Experiment, steps: int) -> None:
    """Print why a training of so many steps will teach the network little, where that is known."""
    for doubt in judge_training(run, steps):
        print(f"WARNING: {doubt}")


def verbosity() -> int | str:
    """`verbose` of Keras' fit: its own progress bars, or none where `TerminalProgress` prints."""
    return 0 if files.is_unattended() else "auto"


def find_rate(run: Experiment, split: Split) -> pd.DataFrame:
    """Train a new network while the learning rate grows from step to step, until the loss does.

    Smith 2017, arXiv:1506.01186. The rates are a geometric series; the schedule has no say.

    Returns:
        rate, loss (of the step's batch, before the step), smoothed (a Gaussian's mean of the losses around).
    """
    train, _ = make_sequences(run, split)
    model = build_model(run)
    compile_model(model, run)
    rates, losses, smoothed = np.geomspace(*RATES, SWEEP), [], np.empty(0)
    for step, rate in enumerate(rates):
        model.optimizer.learning_rate = rate
        model.reset_metrics()  # or the loss would be the mean of all so far
        loss = float(model.train_on_batch(*train[step % len(train)], return_dict=True)["loss"])
        if not np.isfinite(loss):
            break
        losses.append(loss)
        smoothed = gaussian_filter1d(losses, SMOOTHING)
        if smoothed[-1] > WORSE * np.abs(smoothed).min():
            break
    return pd.DataFrame({"rate": rates[: len(losses)], "loss": losses, "smoothed": smoothed})


def suggest_rate(table: pd.DataFrame) -> float:
    """Choose a tenth of the rate at which the smoothed loss of `find_rate` was lowest.

    Where the loss falls fastest is no steady choice with small batches. DefectmillError: the loss never fell.
    """
    if table.empty or not table["smoothed"].argmin():
        raise DefectmillError(
            "the loss falls at no learning rate, or is not a number: look at labels, data and training.loss"
        )
    return float(table["rate"][table["smoothed"].argmin()] / 10)


def print_rates(run: Experiment) -> tuple[pd.DataFrame, float]:
    """Find and print the rate to choose, and write rates.csv; ConfigError where `make labels` has not run.

    Returns:
        The table of `find_rate`, and the suggestion.
    """
    table = find_rate(run, load_split(run, run.networks[0]))
    table.to_csv(run.output / "rates.csv", index=False)
    suggestion = suggest_rate(table)
    print(f"{run.name}: training.learning_rate={run.training.learning_rate:g}, suggested {suggestion:.2g}")
    return table, suggestion
