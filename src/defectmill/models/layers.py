"""Layers shared by the networks. Axes are (N, H, W, C); keras.ops only."""

import keras
from keras import layers, ops

# Of batch normalisation's running statistics: Keras's 0.99 lags behind in runs of few steps.
MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="defectmill")
class PadToMultiple(layers.Layer):
    """Extend a picture at the bottom and right, by repeating its edge, to multiples of `factor`."""

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        for axis in (1, 2):
            side = ops.shape(x)[axis]
            if isinstance(side, int) and side % self.factor == 0:
                continue
            wanted = -(-side // self.factor) * self.factor
            x = ops.take(x, ops.minimum(ops.arange(wanted), side - 1), axis=axis)
        return x

    def compute_output_shape(self, input_shape):
        n, h, w, c = input_shape
        return n, *(s and -(-s // self.factor) * self.factor for s in (h, w)), c

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="defectmill")
class CropLike(layers.Layer):
    """Cut the first argument to the height and width of the second, from the top left."""

    def call(self, inputs):
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape):
        x, like = input_shape
        return x[0], like[1], like[2], x[3]


def normalize(x, kind: str, name: str | None = None):
    """Normalise by the knob `normalization`: none, batch, or group (of 8 channels)."""
    if kind == "batch":
        return layers.BatchNormalization(momentum=MOMENTUM, name=name)(x)
    if kind == "group":
        return layers.GroupNormalization(groups=max(1, x.shape[-1] // 8), name=name)(x)
    return x


def convolve(x, width: int, kernel: int, activation: str, kind: str):
    """Convolve ("same"), normalise, activate."""
    x = layers.Conv2D(
        width, kernel, padding="same", use_bias=kind != "batch", kernel_initializer="he_normal"
    )(x)
    return layers.Activation(activation)(normalize(x, kind))


def attach_head(x, inputs, n_classes: int, head: str):
    """End a network: probabilities of each class at the input's own size, in float32.

    multilabel: C sigmoids. multiclass: softmax over background (first) and C classes.
    """
    channels = n_classes + (head == "multiclass")
    x = layers.Conv2D(channels, 1, name="logits")(x)
    x = CropLike(name="crop")([x, inputs])
    activation = "softmax" if head == "multiclass" else "sigmoid"
    return layers.Activation(activation, dtype="float32", name="probabilities")(x)
