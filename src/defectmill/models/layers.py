"""Layers shared by the networks. Axes are (N, H, W, C); keras.ops only."""

import keras
from keras import layers, ops

# Of batch normalisation's running statistics: Keras's 0.99 lags behind in runs of few steps.
MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="defectmill")
class PadToMultiple(layers.Layer):
    """Extend an image at the bottom and right, by repeating its edge, to multiples of `factor`."""

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


@keras.saving.register_keras_serializable(package="defectmill")
class CropLike(layers.Layer):
    """Cut the first argument to the height and width of the second, from the top left."""

    def call(self, inputs):
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return x[:, :height, :width]


def normalize(x, kind: str):
    """Normalise by the setting `normalization`: none, batch, or group (of 8 channels)."""
    if kind == "batch":
        return layers.BatchNormalization(momentum=MOMENTUM)(x)
    if kind == "group":
        return layers.GroupNormalization(groups=max(1, x.shape[-1] // 8))(x)
    return x


def convolve(x, width: int, activation: str, normalization: str):
    """Convolve by 3x3 to `width` channels at the same size, normalise, activate."""
    bias = normalization != "batch"
    x = layers.Conv2D(width, 3, padding="same", use_bias=bias, kernel_initializer="he_normal")(x)
    return layers.Activation(activation)(normalize(x, normalization))


def attach_head(x, inputs, n_classes: int, head: str):
    """End a network: float32 probabilities of each class, at the size of `inputs`.

    multilabel: C sigmoids. multiclass: softmax over background (first) and C classes.
    """
    multiclass = head == "multiclass"
    x = layers.Conv2D(n_classes + multiclass, 1, name="logits")(x)
    x = CropLike(name="crop")([x, inputs])
    activation = "softmax" if multiclass else "sigmoid"
    return layers.Activation(activation, dtype="float32", name="probabilities")(x)
