"""FlexUNet: a U-Net whose kernels shrink and whose filters double level by level.

The network of the TensorFlow-FlexUNet experiments, setting by setting. Ronneberger et al. 2015,
arXiv:1505.04597, with dilation as of Yu & Koltun 2015, arXiv:1511.07122.
"""

import keras
from keras import layers

from defectmill.models.layers import PadToMultiple, attach_head, normalize
from defectmill.settings import FlexunetSettings


def build_flexunet(settings: FlexunetSettings, n_classes: int, channels: int) -> keras.Model:
    """Build the network, see `build_model`; `n_classes` does not count background.

    Level i, from 0, has filters * 2^i filters, kernels of max(3, kernel - 2i), dilation of
    max(1, dilation - i) and dropout at a rate of i * `dropout`, in encoder and decoder. Height and width are
    halved `levels` - 1 times.
    """
    deepest = settings.levels - 1
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 255)(inputs) if settings.rescale else inputs
    x = PadToMultiple(2**deepest)(x)
    skips = []
    for level in range(deepest):
        skips.append(_convolve_twice(x, level, settings))
        x = layers.MaxPooling2D()(skips[-1])
    x = _convolve_twice(x, deepest, settings)
    for level in reversed(range(deepest)):
        x = layers.Conv2DTranspose(settings.filters * 2**level, 2, strides=2, padding="same")(x)
        x = _convolve_twice(layers.Concatenate()([x, skips[level]]), level, settings)
    return keras.Model(inputs, attach_head(x, inputs, n_classes, settings.head), name="flexunet")


def _convolve_twice(x, level: int, settings: FlexunetSettings):
    width, kernel = settings.filters * 2**level, max(3, settings.kernel - 2 * level)
    rate, dilation = settings.dropout * level, max(1, settings.dilation - level)
    how = {"padding": "same", "activation": settings.activation, "kernel_initializer": "he_normal"}
    for second in (False, True):
        x = layers.Dropout(rate)(x) if second and rate else x
        x = layers.Conv2D(width, kernel, dilation_rate=dilation, **how)(x)
        x = normalize(x, settings.normalization)
    return x
