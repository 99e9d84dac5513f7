"""U-Net of the Severstal capstone, with its sizes as settings.

Ronneberger et al. 2015, arXiv:1505.04597. With the default settings, one channel and four classes it is the
capstone's network: 600,612 parameters.
"""

import keras
from keras import layers

from defectmill.models.layers import PadToMultiple, attach_head, convolve
from defectmill.settings import UnetSettings


def build_unet(settings: UnetSettings, n_classes: int, channels: int) -> keras.Model:
    """Build the network, see `build_model`; `n_classes` does not count background.

    Two convolutions a level, with dropout between those of the bottom.
    """
    widths, up_widths = settings.widths, settings.up_widths
    how = settings.activation, settings.normalization
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 255)(inputs)
    x = PadToMultiple(2 ** len(up_widths))(x)
    skips = []
    for width in widths[:-1]:
        x = convolve(convolve(x, width, *how), width, *how)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = convolve(x, widths[-1], *how)
    x = layers.Dropout(settings.dropout)(x) if settings.dropout else x
    x = convolve(x, widths[-1], *how)
    for width, skip in zip(up_widths, reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = convolve(convolve(x, width, *how), width, *how)
    return keras.Model(inputs, attach_head(x, inputs, n_classes, settings.head), name="unet")
