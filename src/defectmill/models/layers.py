"""Layers shared by the networks. Axes are (N, H, W, C); keras.ops only."""

import keras
import numpy as np
from keras import layers, ops

from defectmill.settings import EncoderModel

GATE = 0.95  # what the image head starts with, for every class
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


@keras.saving.register_keras_serializable(package="defectmill")
class ImageGate(layers.Layer):
    """Multiply each class's probability at every pixel by that of the class in the image.

    Of (N, H, W, C) or (N, H, W, 1 + C) and (N, C). With background, it gets what the classes lose.
    """

    def call(self, inputs):
        probabilities, gate = inputs
        background, classes = ops.split(probabilities, [probabilities.shape[-1] - gate.shape[-1]], axis=-1)
        gated = classes * gate[:, None, None]
        background = background + ops.sum(classes - gated, axis=-1, keepdims=True)
        return ops.concatenate([background, gated], axis=-1)


def normalize(x, kind: str):
    """Normalise by the setting `normalization`: none, batch, or group (of 8 channels, or the next fit)."""
    if kind == "batch":
        return layers.BatchNormalization(momentum=MOMENTUM)(x)
    if kind == "group":
        wanted, channels = max(1, x.shape[-1] // 8), x.shape[-1]
        groups = max(n for n in range(1, wanted + 1) if channels % n == 0)
        return layers.GroupNormalization(groups)(x)
    return x


def convolve(x, width: int, activation: str, normalization: str):
    """Convolve by 3x3 to `width` channels at the same size, normalise, activate."""
    bias = normalization != "batch"
    x = layers.Conv2D(width, 3, padding="same", use_bias=bias, kernel_initializer="he_normal")(x)
    return layers.Activation(activation)(normalize(x, normalization))


def attach_head(x, inputs, n_classes: int, head: str, coarser=()):
    """End a network: float32 probabilities of each class, at the size of `inputs`.

    multilabel: C sigmoids. multiclass: softmax over background (first) and C classes. Each of the `coarser`
    features, of half the size of the next, has logits of its own, which are upsampled and added.
    """
    multiclass, total = head == "multiclass", None
    for level, features in enumerate((*coarser, x)):
        name = "logits" if features is x else f"logits_{level}"
        logits = layers.Conv2D(n_classes + multiclass, 1, name=name)(features)
        if total is not None:
            logits = layers.Add()([layers.UpSampling2D(2, interpolation="bilinear")(total), logits])
        total = logits
    x = CropLike(name="crop")([total, inputs])
    activation = "softmax" if multiclass else "sigmoid"
    return layers.Activation(activation, dtype="float32", name="probabilities")(x)


def attach_decoder(features, inputs, n_classes: int, settings: EncoderModel):
    """Decode an encoder's features as a U-Net does, and end the network as `attach_head` does.

    `up_widths` are those of the decoder at strides 16, 8, 4, 2 and 1; with four, one transposed convolution
    goes from stride 2 to 1, which is faster. `normalization` is the decoder's, `dropout` the rate on the
    deepest features. With `summed_logits` each level has logits of its own, summed into the final ones:
    Kayalibay et al. 2017, arXiv:1701.03056.

    `image_head` tells from the deepest features how probable each class is anywhere in what the network is
    shown (image, crop or tile); pixels' probabilities are multiplied by that. It resembles the
    classification-guided module of UNet 3+ (Huang et al. 2020, arXiv:2004.08790), which has a loss of its own
    and a hard decision; this one learns by the network's loss alone.

    Args:
        features: at strides 2, 4, 8, 16 and 32; None where an encoder has none. The deepest is a must.
    """
    *skips, x = features
    up_widths = settings.up_widths
    x = deepest = layers.Dropout(settings.dropout)(x) if settings.dropout else x
    levels = []
    for level, width in enumerate(up_widths):
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        if level < len(skips) and skips[-1 - level] is not None:
            x = layers.Concatenate()([x, skips[-1 - level]])
        x = convolve(x, width, "relu", settings.normalization)
        levels.append(x)
    if len(up_widths) == len(skips):
        up = {"strides": 2, "padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
        levels.append(layers.Conv2DTranspose(up_widths[-1] // 2, 4, **up)(x))
    coarser = levels[:-1] if settings.summed_logits else ()
    probabilities = attach_head(levels[-1], inputs, n_classes, settings.head, coarser)
    return _gate(probabilities, deepest, n_classes) if settings.image_head else probabilities


def _gate(probabilities, deepest, n_classes: int):
    pooled = [layers.GlobalMaxPooling2D()(deepest), layers.GlobalAveragePooling2D()(deepest)]
    start = keras.initializers.Constant(np.log(GATE / (1 - GATE)))
    # From kernels of 0 every image starts with the same gate, however large its features are.
    how = {"kernel_initializer": "zeros", "bias_initializer": start, "dtype": "float32"}
    gate = layers.Dense(n_classes, "sigmoid", name="image_head", **how)(layers.Concatenate()(pooled))
    return ImageGate(dtype="float32", name="gated")([probabilities, gate])
