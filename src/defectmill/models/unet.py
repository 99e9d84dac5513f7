"""U-Net of the Severstal capstone, with its sizes as knobs.

Ronneberger et al. 2015, arXiv:1505.04597. With the defaults, one input channel and four
classes: the capstone's network to the weight, 600,612 parameters.
"""

from collections.abc import Sequence

import keras
from keras import layers

from defectmill.models.layers import PadToMultiple, attach_head, convolve


def build_unet(
    n_classes: int,
    channels: int = 1,
    widths: Sequence[int] = (8, 16, 32, 64, 64, 128),
    up_widths: Sequence[int] = (64, 32, 32, 16, 8),
    activation: str = "elu",
    normalization: str = "none",
    dropout: float = 0.0,
    head: str = "multilabel",
) -> keras.Model:
    """Build the network.

    Args:
        n_classes: C, background not counted.
        channels: of the picture, 0..255.
        widths: of the encoder's levels, then the bottom; len(widths) - 1 halvings.
        up_widths: of the decoder's levels, deepest first.
        normalization: none, batch or group, after each 3x3 convolution.
        dropout: rate between the two convolutions of the bottom.
        head: multilabel (N, H, W, C) or multiclass (N, H, W, 1 + C), see `attach_head`.
    Raises:
        ValueError: `up_widths` has not one width for each level.
    """
    if len(up_widths) != len(widths) - 1:
        raise ValueError(f"{len(widths)} widths need {len(widths) - 1} up_widths, not {up_widths}")
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 255)(inputs)
    x = PadToMultiple(2 ** len(up_widths))(x)
    skips = []
    for width in widths[:-1]:
        x = convolve(x, width, 3, activation, normalization)
        x = convolve(x, width, 3, activation, normalization)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = convolve(x, widths[-1], 3, activation, normalization)
    x = layers.Dropout(dropout)(x) if dropout else x
    x = convolve(x, widths[-1], 3, activation, normalization)
    for width, skip in zip(up_widths, reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = convolve(x, width, 3, activation, normalization)
        x = convolve(x, width, 3, activation, normalization)
    return keras.Model(inputs, attach_head(x, inputs, n_classes, head), name="unet")
