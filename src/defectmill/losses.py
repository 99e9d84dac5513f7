"""Losses and the foreground measure, in keras.ops only.

Truth is (N, H, W, C) in {0, 1} without background. Prediction is (N, H, W, C) of a multilabel
head or (N, H, W, 1 + C) of a multiclass head, whose channel 0 is background.
"""

import keras
from keras import ops

EPSILON = 1e-6


def probability_of_truth(y_true, y_pred):
    """What the model gives the right answer: multilabel (N, H, W, C), multiclass (N, H, W)."""
    if y_pred.shape[-1] == y_true.shape[-1]:
        p = y_true * y_pred + (1 - y_true) * (1 - y_pred)
    else:
        background = 1 - ops.sum(y_true, axis=-1, keepdims=True)
        p = ops.sum(ops.concatenate([background, y_true], axis=-1) * y_pred, axis=-1)
    return ops.clip(p, EPSILON, 1.0)


@keras.saving.register_keras_serializable(package="defectmill")
def soft_pixel_accuracy(y_true, y_pred):
    """Mean probability of the true class over all pixels, background among them: a scalar.

    What FlexUNet calls dice_coef_multiclass: with one-hot truth and a softmax its denominator is
    twice the number of pixels. An answer of background alone scores the share of background.
    """
    return ops.mean(probability_of_truth(ops.cast(y_true, y_pred.dtype), y_pred))


@keras.saving.register_keras_serializable(package="defectmill")
def flat_dice(y_true, y_pred):
    """Soft Dice of a batch, all classes and pictures as one mask, smoothed by 1: a scalar.

    The capstone's "Dice coefficient". Background is no part of it.
    """
    y_pred = y_pred[..., -y_true.shape[-1] :]
    both = ops.sum(y_true * y_pred)
    return (2 * both + 1) / (ops.sum(y_true) + ops.sum(y_pred) + 1)


@keras.saving.register_keras_serializable(package="defectmill")
class DefectLoss(keras.losses.Loss):
    """A weighted sum of cross-entropy, Dice loss and focal loss, right for its head.

    Cross-entropy and focal loss (Lin et al. 2017, arXiv:1708.02002, gamma 2) are means over
    pixels (and classes, multilabel). The Dice loss (Milletari et al. 2016, arXiv:1606.04797) is
    1 - the mean, over the defect classes present in the batch, of soft Dice pooled over the
    batch; background never counts. The flat Dice loss is 1 - the soft Dice of all classes and
    pictures of the batch taken as one mask, as the Severstal capstone has it: large masks rule it.

    Args:
        head: multilabel or multiclass.
        weights: {"cross_entropy" | "dice" | "flat_dice" | "focal": weight}.
    """

    def __init__(self, head: str, weights: dict[str, float], name="loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.head, self.weights = head, dict(weights)

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, y_pred.dtype)
        terms = {
            "cross_entropy": self._cross_entropy, "focal": self._focal, "dice": self._dice,
            "flat_dice": self._flat_dice,
        }  # fmt: skip
        return sum(weight * terms[term](y_true, y_pred) for term, weight in self.weights.items())

    def _cross_entropy(self, y_true, y_pred):
        if self.head == "multiclass":
            return -ops.mean(ops.log(probability_of_truth(y_true, y_pred)))
        yes, no = (ops.log(ops.clip(p, EPSILON, 1.0)) for p in (y_pred, 1 - y_pred))
        return -ops.mean(y_true * yes + (1 - y_true) * no)

    def _focal(self, y_true, y_pred):
        p = probability_of_truth(y_true, y_pred)
        return -ops.mean(ops.square(1 - p) * ops.log(p))

    def _dice(self, y_true, y_pred):
        if self.head == "multiclass":
            y_pred = y_pred[..., 1:]
        both = ops.sum(y_true * y_pred, axis=(0, 1, 2))
        true, predicted = ops.sum(y_true, axis=(0, 1, 2)), ops.sum(y_pred, axis=(0, 1, 2))
        dice = (2 * both + EPSILON) / (true + predicted + EPSILON)
        present = ops.cast(true > 0, dice.dtype)
        return ops.sum((1 - dice) * present) / ops.maximum(ops.sum(present), 1)

    def _flat_dice(self, y_true, y_pred):
        return 1 - flat_dice(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "head": self.head, "weights": self.weights}


@keras.saving.register_keras_serializable(package="defectmill")
class ForegroundDice(keras.metrics.Metric):
    """Mean over the defect classes of Dice pooled over all pictures; classes never seen are out.

    A multilabel pixel counts above 0.5, a multiclass pixel by its largest class. All background
    scores 0.
    """

    def __init__(self, n_classes: int, head: str, name="foreground_dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.n_classes, self.head = n_classes, head
        self.both = self.add_weight(shape=(n_classes,), initializer="zeros", name="both")
        self.true = self.add_weight(shape=(n_classes,), initializer="zeros", name="true")
        self.predicted = self.add_weight(shape=(n_classes,), initializer="zeros", name="predicted")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true > 0, "float32")
        if self.head == "multiclass":
            y_pred = ops.one_hot(ops.argmax(y_pred, axis=-1), self.n_classes + 1)[..., 1:]
        else:
            y_pred = ops.cast(y_pred > 0.5, "float32")
        self.both.assign_add(ops.sum(y_true * y_pred, axis=(0, 1, 2)))
        self.true.assign_add(ops.sum(y_true, axis=(0, 1, 2)))
        self.predicted.assign_add(ops.sum(y_pred, axis=(0, 1, 2)))

    def result(self):
        dice = 2 * self.both / ops.maximum(self.true + self.predicted, 1)
        seen = ops.cast(self.true > 0, "float32")
        return ops.sum(dice * seen) / ops.maximum(ops.sum(seen), 1)

    def get_config(self):
        return {**super().get_config(), "n_classes": self.n_classes, "head": self.head}
