"""What Keras' `compile` and `fit` need: optimizer, loss, metrics."""

import keras

from defectmill import files
from defectmill.config import Experiment
from defectmill.models.encoder_unet import PARTS
from defectmill.models.losses import DefectLoss, ForegroundDice, batch_dice, soft_pixel_accuracy
from defectmill.settings import EncoderUnetSettings

MONITOR = "val_foreground_dice"  # what decides between epochs
METRICS = {"batch_dice": batch_dice, "soft_pixel_accuracy": soft_pixel_accuracy}


@keras.saving.register_keras_serializable(package="defectmill")
class Adam(keras.optimizers.Adam):
    """Adam with a lower learning rate for the pretrained encoder: `encoder_rate` times the others'.

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


def make_optimizer(run: Experiment) -> Adam:
    """Make the experiment's optimizer."""
    training = run.training
    return Adam(
        training.learning_rate,
        encoder_rate=run.model.encoder_rate if isinstance(run.model, EncoderUnetSettings) else 1.0,
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


def verbosity() -> int | str:
    """`verbose` of Keras' fit: its own progress bars, or none where `TerminalProgress` prints."""
    return 0 if files.is_unattended() else "auto"
